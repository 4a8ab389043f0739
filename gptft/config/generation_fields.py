"""The settings of `generation`: every name, its type, its range and what it means.

In: the values of a config's `generation` section or of command-line flags. Out: the same values in
the types they are meant in, or what is wrong with each. What a strategy does with a setting is no
matter here. Must not import transformers or torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from gptft.config.suggest import did_you_mean
from gptft.terminal.words import short_value, wrong_value

Kind = Literal[
    "int", "float", "bool", "text", "texts", "ints", "weights", "words", "early_stopping", "layers",
    "decay",
]  # fmt: skip
Group = Literal[
    "length", "search", "sampling", "repetition", "tokens", "other models", "speed", "watermark",
    "choice",
]  # fmt: skip

MAX_SEED = 2**32 - 1  # what numpy takes, and so the same range as training.seed
_WHOLE: tuple[Kind, ...] = ("int", "ints", "layers")

_WORDS: dict[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "text",
    "texts": "text or a list of texts",
    "ints": "a list of whole numbers",
    "weights": "a mapping of texts to numbers",
    "words": "a list of texts, a list in place of a text meaning any one of them",
    "early_stopping": "true, false or never",
    "layers": "low, high or a list of layers",
    "decay": "a list of two numbers, where it starts and by what factor it grows",
}


@dataclass(frozen=True)
class Parameter:
    """A setting, whichever strategy uses it.

    Attributes:
        name: as transformers spells it, or as the tool does that has it.
        kind: of its values.
        neutral: the value that changes nothing.
        description: what it does, in a sentence.
        group: what it is about.
        at_least: the lowest value allowed.
        above: the value it must exceed.
        at_most: the highest value allowed.
        below: the value it must stay under.
        choices: the texts allowed, where they are few.
        hint: what to do instead, where a value is out of range.
    """

    name: str
    kind: Kind
    neutral: Any
    description: str
    group: Group
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    hint: str = ""

    def read(self, value: Any) -> Any:
        """`value` in the type it is meant in.

        Raises:
            ValueError: it isn't of that type, or out of range; the message goes on from the name.

        >>> PARAMETERS["temperature"].read(2), PARAMETERS["top_k"].read("5.0")
        (2.0, 5)
        >>> PARAMETERS["top_p"].read(1.5)
        Traceback (most recent call last):
        ValueError: must be at most 1, not 1.5.
        """
        meant = _READERS[self.kind](value)
        if meant is None:
            off = _off(self) if value is None else ""
            raise ValueError(f"must be {_WORDS[self.kind]}, not {wrong_value(value)}.{off}")
        self._check_range(meant)
        return meant

    def _check_range(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            hint = did_you_mean(value, self.choices) or f"Take one of {', '.join(self.choices)}."
            raise ValueError(f"can't be {wrong_value(value)}. {hint}")
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            wanted = self._wanted(number)
            if wanted:
                raise ValueError(
                    f"must be {wanted}, not {wrong_value(number)}. {self.hint}".rstrip()
                )

    def _wanted(self, value: float) -> str | None:
        if not math.isfinite(value):
            return "a finite number"
        if self.at_least is not None and value < self.at_least:
            return f"at least {self.at_least:g}"
        if self.above is not None and value <= self.above:
            return f"above {self.above:g}"
        if self.at_most is not None and value > self.at_most:
            return f"at most {self.at_most:,.12g}"
        if self.below is not None and value >= self.below:
            return f"below {self.below:g}"
        return None

    @property
    def range(self) -> str:
        """The values allowed, in words; empty where all are.

        >>> PARAMETERS["top_p"].range, PARAMETERS["num_beams"].range
        ('above 0, at most 1', 'at least 1')
        """
        words = [
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        ]
        bounds = ", ".join(f"{word} {bound:,.12g}" for word, bound in words if bound is not None)
        return bounds or ", ".join(self.choices)


def _off(row: Parameter) -> str:
    """What to do instead of setting it to null, which is no value of any setting."""
    neutral = row.neutral
    if isinstance(neutral, bool | int | float) and neutral not in (0, 1):
        return f" Leave it out for {short_value(neutral)}."
    if isinstance(neutral, bool | int | float) and row._wanted(neutral) is None:
        return f" {short_value(neutral)} turns it off."
    return " Leave it out for the default." if neutral else " Leave it out to turn it off."


def _whole(value: Any) -> int | None:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    return value if isinstance(value, int) else int(number)


def _number(value: Any) -> float | None:
    """A number, also one that YAML takes for text, as it does with 3e-4."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(_text(text) for text in value):
        return None
    return list(value)


def _ints(value: Any) -> list[int] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    numbers = [_whole(number) for number in value]
    return [n for n in numbers if n is not None] if None not in numbers else None


def _weights(value: Any) -> dict[str, float] | None:
    if not isinstance(value, Mapping):
        return None
    weights = {str(key): _number(number) for key, number in value.items()}
    finite = {k: n for k, n in weights.items() if k and n is not None and math.isfinite(n)}
    return finite if len(finite) == len(value) else None


def _words(value: Any) -> list[str | list[str]] | None:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return None
    words: list[str | list[str]] = []
    for word in value:
        alternatives = _text(word) or (_texts(word) if not isinstance(word, str) else None)
        if not alternatives:
            return None
        words.append(alternatives)
    return words


def _layers(value: Any) -> str | list[int] | None:
    return value if value in ("low", "high") else _ints(value)


def _decay(value: Any) -> list[float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    start, factor = _whole(value[0]), _number(value[1])
    return None if start is None or factor is None else [start, factor]


def _early_stopping(value: Any) -> bool | str | None:
    return value if isinstance(value, bool) or value == "never" else None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_READERS: dict[Kind, Any] = {
    "int": _whole,
    "float": _number,
    "bool": _bool,
    "text": _text,
    "texts": _texts,
    "ints": _ints,
    "weights": _weights,
    "words": _words,
    "early_stopping": _early_stopping,
    "layers": _layers,
    "decay": _decay,
}


_TABLE = (
    # length
    Parameter("max_new_tokens", "int", 60, "Tokens to write at most.", "length", at_least=1),
    Parameter("min_new_tokens", "int", 0, "No EOS before so many tokens.", "length", at_least=0),
    Parameter("stop_strings", "texts", [], "End the text before one of these.", "length"),
    Parameter("max_time", "float", None, "Seconds after which a text ends.", "length", above=0,
              hint="Leave it out for no limit."),
    Parameter("exponential_decay_length_penalty", "decay", None,
              "After so many new tokens EOS becomes likelier by this factor to the power of the "
              "tokens since.", "length", at_least=0),
    Parameter("forced_eos_token_id", "ints", [], "Ids one of which is the last token when the text "
              "is as long as it may be.", "length", at_least=0),
    # search
    Parameter("do_sample", "bool", False, "Draw tokens instead of taking the likeliest.", "search"),
    Parameter("num_beams", "int", 1, "Texts kept at once.", "search", at_least=1),
    Parameter("length_penalty", "float", 1.0, "Beams: above 0 favours longer texts, below 0 "
              "shorter ones.", "search"),
    Parameter("early_stopping", "early_stopping", False, "Beams: stop at num_beams ended texts; "
              "never waits until no better one is possible.", "search"),
    Parameter("num_beam_groups", "int", 1, "Groups of beams, each kept away from the earlier ones.",
              "search", at_least=1),
    Parameter("diversity_penalty", "float", 0.0, "Taken from a token's score for each earlier "
              "group that chose it at this step.", "search", at_least=0),
    Parameter("force_words", "words", [], "Words the text must hold; a list among them means any "
              "one of its words.", "search"),
    Parameter("choices", "texts", [], "The text is one of these.", "search"),
    Parameter("regex", "text", None, "The text matches this regular expression.", "search"),
    Parameter("penalty_alpha", "float", 0.0, "How much a candidate's likeness to the text so far "
              "counts against its probability.", "search", at_least=0, at_most=1),
    Parameter("dola_layers", "layers", "low", "The early layers to contrast with: the lower half, "
              "the upper half, or numbers.", "search", at_least=0),
    # sampling
    Parameter("temperature", "float", 1.0, "Below 1 safer, above 1 bolder.", "sampling",
              at_least=1e-6, hint="For the likeliest token each time take greedy."),
    Parameter("dynatemp_range", "float", 0.0, "The temperature goes from temperature minus this, "
              "where the model is sure, to temperature plus this.", "sampling", at_least=0),
    Parameter("dynatemp_exponent", "float", 1.0, "How the temperature follows the entropy.",
              "sampling", above=0),
    Parameter("smoothing_factor", "float", 0.0, "Quadratic smoothing around the likeliest token; "
              "0 is off.", "sampling", at_least=0),
    Parameter("smoothing_curve", "float", 1.0, "Above 1 the tail falls faster.", "sampling",
              at_least=1, at_most=3),
    Parameter("top_n_sigma", "float", 0.0, "Draw from tokens within n standard deviations of the "
              "highest logit; 0 is off.", "sampling", at_least=0),
    Parameter("top_h", "float", 1.0, "Draw from the likeliest tokens whose entropy stays below "
              "this share of the whole; 1 is off.", "sampling", above=0, at_most=1),
    Parameter("top_k", "int", 0, "Draw from the k likeliest tokens; 0 from all.", "sampling",
              at_least=0),
    Parameter("top_a", "float", 0.0, "Draw from tokens as likely as this times the highest "
              "probability squared; 0 is off.", "sampling", at_least=0, at_most=1),
    Parameter("tfs_z", "float", 1.0, "Tail-free: cut where the sorted probabilities flatten out; 1 "
              "is off.", "sampling", above=0, at_most=1),
    Parameter("top_p", "float", 1.0, "Draw from the likeliest tokens that reach this probability; "
              "1 is off.", "sampling", above=0, at_most=1),
    Parameter("min_p", "float", 0.0, "Draw from tokens at least this share as likely as the "
              "likeliest; 0 is off.", "sampling", at_least=0, at_most=1),
    Parameter("typical_p", "float", 1.0, "Draw from the tokens of the most expected surprise that "
              "reach this probability; 1 is off.", "sampling", above=0, at_most=1),
    Parameter("epsilon_cutoff", "float", 0.0, "Draw from tokens at least this likely; 0 is off.",
              "sampling", at_least=0, below=1),
    Parameter("eta_cutoff", "float", 0.0, "As epsilon_cutoff, lower where the model is unsure; 0 "
              "is off.", "sampling", at_least=0, below=1),
    Parameter("xtc_probability", "float", 0.0, "How often the likeliest tokens but one are taken "
              "away.", "sampling", at_least=0, at_most=1),
    Parameter("xtc_threshold", "float", 0.1, "From this probability on a token is taken away.",
              "sampling", above=0, at_most=1, hint="Above 0.5 it does nothing."),
    Parameter("mirostat_tau", "float", 5.0, "The surprise of a token to aim at, in bits.",
              "sampling", above=0),
    Parameter("mirostat_eta", "float", 0.1, "How fast the cut follows the surprise.", "sampling",
              above=0, at_most=1),
    Parameter("mirostat_m", "int", 100, "Tokens from which the shape of the tail is estimated.",
              "sampling", at_least=2),
    Parameter("seed", "int", None, "Of the draws; without it one is drawn and shown.", "sampling",
              at_least=0, at_most=MAX_SEED),
    # repetition
    Parameter("repetition_penalty", "float", 1.0, "Above 1: tokens already in the text become less "
              "likely.", "repetition", above=0, hint="1 turns it off."),
    Parameter("encoder_repetition_penalty", "float", 1.0, "Above 1: tokens of the prompt become "
              "likelier.", "repetition", above=0, hint="1 turns it off."),
    Parameter("no_repeat_ngram_size", "int", 0, "Never the same n tokens twice; 0 is off.",
              "repetition", at_least=0, hint="0 turns it off."),
    Parameter("encoder_no_repeat_ngram_size", "int", 0, "No n tokens of the prompt again; 0 is "
              "off.", "repetition", at_least=0, hint="0 turns it off."),
    Parameter("frequency_penalty", "float", 0.0, "Taken from a token's logit each time it was "
              "written.", "repetition", at_least=-2, at_most=2),
    Parameter("presence_penalty", "float", 0.0, "Taken from a token's logit once it was written.",
              "repetition", at_least=-2, at_most=2),
    Parameter("dry_multiplier", "float", 0.0, "How much going on with a repeat counts against a "
              "token; 0 is off.", "repetition", at_least=0),
    Parameter("dry_base", "float", 1.75, "How fast that grows with the length of the repeat.",
              "repetition", at_least=1),
    Parameter("dry_allowed_length", "int", 2, "Tokens that may repeat freely.", "repetition",
              at_least=1),
    Parameter("dry_penalty_last_n", "int", 0, "How far back repeats are looked for, in tokens; 0 "
              "is all the way.", "repetition", at_least=0),
    Parameter("dry_sequence_breakers", "texts", ["\n", ":", '"', "*"], "A repeat ends at these.",
              "repetition"),
    # tokens
    Parameter("bad_words", "texts", [], "Words that are never written.", "tokens"),
    Parameter("allowed_words", "texts", [], "Only the tokens of these words are written.",
              "tokens"),
    Parameter("sequence_bias", "weights", {}, "Added to the logit of the token that ends one of "
              "these texts.", "tokens"),
    Parameter("logit_bias", "weights", {}, "Added to the logit of a token, given by its id or its "
              "text.", "tokens"),
    Parameter("suppress_tokens", "ints", [], "Ids that are never written.", "tokens", at_least=0),
    Parameter("begin_suppress_tokens", "ints", [], "Ids that aren't written first.", "tokens",
              at_least=0),
    Parameter("token_healing", "bool", False, "Let the model end the prompt's last word its own "
              "way.", "tokens"),
    # other models
    Parameter("guidance_scale", "float", 1.0, "Above 1: away from what follows the negative "
              "prompt.", "other models", at_least=0),
    Parameter("negative_prompt", "text", None, "What not to go on from; without it the last token "
              "of the prompt alone.", "other models"),
    Parameter("context", "text", None, "A text to answer from, put before the prompt.",
              "other models"),
    Parameter("context_alpha", "float", 0.0, "How much what the context changes is amplified.",
              "other models", at_least=0),
    Parameter("amateur_model", "text", None, "A weaker model whose preferences are taken off.",
              "other models"),
    Parameter("amateur_layers", "int", 0, "The amateur is the model's own first layers; 0 is off.",
              "other models", at_least=0),
    Parameter("amateur_temperature", "float", 1.0, "The amateur's logits are divided by it.",
              "other models", above=0),
    Parameter("cd_alpha", "float", 0.1, "Only tokens at least this share as likely as the "
              "likeliest.", "other models", above=0, at_most=1),
    Parameter("cd_beta", "float", 0.0, "How much the amateur's logits are taken off.",
              "other models", at_least=0),
    Parameter("expert_model", "text", None, "A model tuned on what is wanted.", "other models"),
    Parameter("antiexpert_model", "text", None, "A model tuned on what isn't.", "other models"),
    Parameter("dexperts_alpha", "float", 0.0, "How much the two pull.", "other models",
              at_least=0),
    # speed
    Parameter("assistant_model", "text", None, "A small model that drafts; its tokenizer may be "
              "another.", "speed"),
    Parameter("assistant_early_exit", "int", 0, "The drafts come from the model's own first "
              "layers.", "speed", at_least=1),
    Parameter("num_assistant_tokens", "int", 5, "Tokens drafted at once.", "speed", at_least=1),
    Parameter("num_assistant_tokens_schedule", "text", "constant", "Whether that number follows "
              "how well the drafts do.", "speed", choices=("constant", "heuristic",
              "heuristic_transient")),
    Parameter("assistant_confidence_threshold", "float", 0.0, "A draft ends where the drafting "
              "model is less sure than this.", "speed", at_least=0, at_most=1),
    Parameter("prompt_lookup_num_tokens", "int", 0, "Tokens copied at once as a draft.", "speed",
              at_least=1),
    Parameter("max_matching_ngram_size", "int", 2, "The longest match looked for.", "speed",
              at_least=1),
    Parameter("lookahead_window", "int", 5, "Tokens guessed ahead at once.", "speed", at_least=1),
    Parameter("lookahead_ngram_size", "int", 3, "Tokens of a guess that is kept.", "speed",
              at_least=2),
    Parameter("lookahead_guesses", "int", 5, "Guesses tried at once.", "speed", at_least=1),
    # watermark
    Parameter("greenlist_ratio", "float", 0.25, "The share of tokens that is favoured.",
              "watermark", above=0, below=1),
    Parameter("watermark_bias", "float", 2.0, "Added to the logits of favoured tokens.",
              "watermark", above=0),
    Parameter("hashing_key", "int", 15485863, "The secret by which tokens are favoured.",
              "watermark", at_least=0, at_most=2**31 - 1),
    Parameter("seeding_scheme", "text", "lefthash", "What the favoured tokens depend on.",
              "watermark", choices=("lefthash", "selfhash")),
    Parameter("context_width", "int", 1, "Tokens before the next that they depend on.",
              "watermark", at_least=1),
    Parameter("synthid_keys", "ints", [], "The secret, a number a round.", "watermark", at_least=0,
              at_most=2**31 - 1),
    Parameter("synthid_ngram_len", "int", 5, "Tokens that the mark depends on.", "watermark",
              at_least=2),
    # choice
    Parameter("num_return_sequences", "int", 1, "Texts a prompt.", "choice", at_least=1),
    Parameter("num_candidates", "int", 8, "Texts drawn, of which the best are returned.", "choice",
              at_least=2),
    Parameter("answer_pattern", "text", None, "A regular expression; its last match, or that of "
              "its group, is a text's answer.", "choice"),
)  # fmt: skip

PARAMETERS: MappingProxyType[str, Parameter] = MappingProxyType({row.name: row for row in _TABLE})

# Settings by the names other tools or earlier transformers have for them.
_MEANT = {
    "strategy_name": "strategy",
    "max_length": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "n_predict": "max_new_tokens",
    "min_length": "min_new_tokens",
    "temp": "temperature",
    "typical": "typical_p",
    "tfs": "tfs_z",
    "top_nsigma": "top_n_sigma",
    "repeat_penalty": "repetition_penalty",
    "stop": "stop_strings",
    "n": "num_return_sequences",
    "best_of": "num_candidates",
    "bad_words_ids": "bad_words",
    "force_words_ids": "force_words",
    "xtc_prob": "xtc_probability",
    "penalty_last_n": "dry_penalty_last_n",
}


def read_generation(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Check the settings of one strategy.

    Args:
        values: by name, as YAML or a flag gives them; `strategy` among them.

    Returns:
        the values in the types they are meant in, and (name, what is wrong) pairs; the message goes
        on from the setting's full name.

    >>> read_generation({"temperature": 2, "top_q": 1})
    ({'temperature': 2.0}, [('top_q', 'is not a setting. Did you mean top_p?')])
    """
    meant: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in values.items():
        if name == "strategy":
            if isinstance(value, str) and value:
                meant[name] = value
            else:
                problems.append((name, f"must be a strategy's name, not {wrong_value(value)}."))
        elif name in PARAMETERS:
            try:
                meant[name] = PARAMETERS[name].read(value)
            except ValueError as error:
                problems.append((name, str(error)))
        else:
            problems.append((name, f"is not a setting. {_hint(name)}".rstrip()))
    return meant, problems


def _hint(name: str) -> str:
    if name in _MEANT:
        return f"Did you mean {_MEANT[name]}?"
    return did_you_mean(name, [*PARAMETERS, "strategy"])


def field_schema(row: Parameter) -> dict[str, Any]:
    """A setting as JSON Schema.

    >>> field_schema(PARAMETERS["min_p"])["maximum"]
    1
    """
    number: dict[str, Any] = {"type": "integer" if row.kind in _WHOLE else "number"}
    bounds = {
        "minimum": row.at_least,
        "exclusiveMinimum": row.above,
        "maximum": row.at_most,
        "exclusiveMaximum": row.below,
    }
    number |= {key: bound for key, bound in bounds.items() if bound is not None}
    text: dict[str, Any] = {"type": "string", "minLength": 1}
    if row.choices:
        text["enum"] = list(row.choices)
    texts = {"type": "array", "items": text}
    shapes: dict[Kind, dict[str, Any]] = {
        "int": number,
        "float": number,
        "bool": {"type": "boolean"},
        "text": text,
        "texts": {"anyOf": [text, texts]},
        "ints": {"anyOf": [number, {"type": "array", "items": number}]},
        "weights": {"type": "object", "additionalProperties": {"type": "number"}},
        "words": {"anyOf": [text, {"type": "array", "items": {"anyOf": [text, texts]}}]},
        "early_stopping": {"enum": [True, False, "never"]},
        "layers": {"anyOf": [{"enum": ["low", "high"]}, {"type": "array", "items": number}]},
        "decay": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    }
    return {"description": row.description, **shapes[row.kind]}
