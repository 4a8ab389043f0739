"""The strategies by name: what each does, which settings it takes, and what it can't do.

Rows of a table, from which `gptft strategies`, the check of settings and the docs are made. The
settings themselves, with types and ranges, are in `config.generation_fields`. Pure: must not import
torch or transformers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from gptft.config.generation_fields import PARAMETERS
from gptft.config.suggest import did_you_mean
from gptft.errors import ConfigError

Draws = Literal["never", "always", "asked"]
Loop = Literal[
    "native", "contrastive", "dola", "diverse_beam", "constrained_beam", "stochastic_beam",
    "lookahead",
]  # fmt: skip
Pick = Literal["all", "best_of_n", "self_consistency", "mbr"]

_LENGTH = (
    "max_new_tokens", "min_new_tokens", "stop_strings", "max_time",
    "exponential_decay_length_penalty", "forced_eos_token_id",
)  # fmt: skip
_REPETITION = (
    "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "frequency_penalty", "presence_penalty", "dry_multiplier",
    "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers",
)  # fmt: skip
_TOKENS = (
    "bad_words", "allowed_words", "sequence_bias", "logit_bias", "suppress_tokens",
    "begin_suppress_tokens", "token_healing",
)  # fmt: skip
_EVERYWHERE = (*_LENGTH, *_REPETITION, *_TOKENS)
_WARPERS = (
    "temperature", "dynatemp_range", "dynatemp_exponent", "smoothing_factor", "smoothing_curve",
    "top_n_sigma", "top_h", "top_k", "top_a", "tfs_z", "top_p", "min_p", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "xtc_probability", "xtc_threshold",
)  # fmt: skip
_SAMPLING = (*_WARPERS, *_EVERYWHERE, "num_return_sequences")
_BEAMS = ("num_beams", "length_penalty", "early_stopping", *_EVERYWHERE, "num_return_sequences")
_DRAFTS = (*_WARPERS, "do_sample", *_LENGTH, *_REPETITION, *_TOKENS)
# Where a setting does nothing unless another one is on.
_SWITCHES = {
    "dynatemp_exponent": "dynatemp_range",
    "smoothing_curve": "smoothing_factor",
    "xtc_threshold": "xtc_probability",
    "dry_base": "dry_multiplier",
    "dry_allowed_length": "dry_multiplier",
    "dry_penalty_last_n": "dry_multiplier",
    "dry_sequence_breakers": "dry_multiplier",
}
SWITCHES: Mapping[str, str] = MappingProxyType(_SWITCHES)
WARPERS = frozenset(_WARPERS)
SHARED = frozenset((*_EVERYWHERE, *_WARPERS, "num_return_sequences", "do_sample"))


@dataclass(frozen=True)
class Strategy:
    """A named way to decode.

    Attributes:
        name: what a config and the command line call it.
        description: what it does, in one sentence.
        takes: the settings it uses, by name.
        source: where it was described.
        defaults: its own, where they aren't the neutral ones.
        needs: settings of which at least one must be given.
        draws: whether it draws tokens, and so needs a seed: always, never, or with do_sample.
        loop: the loop that runs it; native is transformers' own.
        pick: which of the texts drawn are returned.
        single: why it takes one prompt at a time; empty where prompts share a batch.
        conflicts: what it can't be combined with, in words.
    """

    name: str
    description: str
    takes: tuple[str, ...]
    source: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    draws: Draws = "never"
    loop: Loop = "native"
    pick: Pick = "all"
    single: str = ""
    conflicts: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """What is in force where nothing is given, by name."""
        return {name: self.defaults.get(name, PARAMETERS[name].neutral) for name in self.takes}

    def to_dict(self) -> dict[str, Any]:
        """The row with its settings in full, by name."""
        return {
            "name": self.name,
            "description": self.description,
            "source": self.source,
            "draws": self.draws,
            "needs": list(self.needs),
            "conflicts": self.conflicts,
            "settings": [
                {
                    "name": name,
                    "type": PARAMETERS[name].kind.name,
                    "range": PARAMETERS[name].range,
                    "default": value,
                    "description": PARAMETERS[name].description,
                }
                for name, value in self.values.items()
            ],
        }

    @property
    def own(self) -> tuple[str, ...]:
        """The settings that make it what it is."""
        return tuple(n for n in self.takes if n in self.defaults or n not in SHARED)

    @property
    def beams(self) -> bool:
        """Whether it keeps several texts at once."""
        return "num_beams" in self.takes


def _sampling(
    name: str, description: str, source: str, takes: tuple[str, ...] = _SAMPLING, **defaults: Any
) -> Strategy:
    """A strategy that draws from a distribution which settings have cut or bent."""
    own = tuple(n for n in defaults if n in takes)
    takes = (*own, *(n for n in takes if n not in own))
    return Strategy(name, description, takes, source, defaults, draws="always")


_NO_BEAMS = "beams: their scores would be compared after being bent"
_ONE_TOKEN_AT_A_TIME = "beams, guidance and mirostat: a draft that is rejected would stay in memory"

_TABLE = (
    Strategy(
        "greedy",
        "Takes the likeliest token at each step.",
        _EVERYWHERE,
        "No paper: the argmax of p(token | text so far).",
    ),
    _sampling(
        "temperature",
        "Draws each token from the whole distribution, its logits divided by temperature: below 1 "
        "safer, above 1 bolder.",
        "Ackley, Hinton and Sejnowski 1985, A Learning Algorithm for Boltzmann Machines.",
    ),
    _sampling(
        "top_k", "Draws each token from the k likeliest.", "Fan et al. 2018 (1805.04833).", top_k=50
    ),
    _sampling(
        "nucleus",
        "Draws each token from the fewest likeliest ones that together reach the probability "
        "top_p.",
        "Holtzman et al. 2020 (1904.09751), section 3.1.",
        top_p=0.9,
    ),
    _sampling(
        "min_p",
        "Draws each token from those at least min_p times as likely as the likeliest.",
        "Nguyen et al. 2024 (2407.01082).",
        min_p=0.1,
    ),
    _sampling(
        "top_h",
        "Draws each token from the likeliest ones whose entropy stays below a share of the "
        "whole distribution's.",
        "Potraghloo et al. 2025 (2509.02510).",
        top_h=0.4,
    ),
    _sampling(
        "typical",
        "Draws each token from those whose surprise is nearest to the expected one.",
        "Meister et al. 2022 (2202.00666).",
        typical_p=0.9,
    ),
    _sampling(
        "epsilon",
        "Draws each token from those at least epsilon_cutoff likely.",
        "Hewitt, Manning and Liang 2022 (2210.15191), section 4.",
        epsilon_cutoff=9e-4,
    ),
    _sampling(
        "eta",
        "Draws each token from those likelier than a cut that falls where the model is unsure.",
        "Hewitt, Manning and Liang 2022 (2210.15191), section 4.",
        eta_cutoff=3e-4,
    ),
    _sampling(
        "top_n_sigma",
        "Draws each token from those whose logit is within n standard deviations of the highest.",
        "Tang et al. 2024 (2411.07641).",
        top_n_sigma=1.0,
    ),
    _sampling(
        "top_a",
        "Draws each token from those as likely as top_a times the highest probability squared.",
        "No paper: BlinkDL's RWKV-LM, 2021.",
        top_a=0.2,
    ),
    _sampling(
        "tail_free",
        "Draws each token from those before the sorted probabilities flatten out.",
        "Phénix and Egan 2019, Tail Free Sampling (trentbrick.github.io).",
        tfs_z=0.95,
    ),
    _sampling(
        "dynamic_temperature",
        "Draws each token at a temperature that rises with the entropy of the distribution.",
        "No paper: kalomaze 2023; llama.cpp's dynatemp.",
        dynatemp_range=0.5,
    ),
    _sampling(
        "quadratic_smoothing",
        "Draws each token after a parabola around the highest logit has bent all others.",
        "No paper: kalomaze 2024; text-generation-webui's smoothing_factor.",
        smoothing_factor=0.3,
    ),
    _sampling(
        "xtc",
        "Draws each token after taking away, now and then, all likely ones but the least likely of "
        "them.",
        "No paper: p-e-w 2024, Exclude Top Choices (text-generation-webui 6335).",
        xtc_probability=0.5,
        xtc_threshold=0.1,
        min_p=0.02,
    ),
    Strategy(
        "mirostat",
        "Draws each token from those less surprising than a cut that steers the mean surprise to "
        "mirostat_tau.",
        ("mirostat_tau", "mirostat_eta", "temperature", *_EVERYWHERE, "num_return_sequences"),
        "Basu et al. 2021 (2007.14966); version 2 of its reference code.",
        draws="always",
        conflicts="beams and other cuts: mirostat's is the last and remembers what was drawn",
    ),
    Strategy(
        "mirostat_v1",
        "Draws each token from the k likeliest, k steered by the estimated tail so that the mean "
        "surprise is mirostat_tau.",
        (
            "mirostat_tau",
            "mirostat_eta",
            "mirostat_m",
            "temperature",
            *_EVERYWHERE,
            "num_return_sequences",
        ),
        "Basu et al. 2021 (2007.14966), algorithm 1.",
        draws="always",
        conflicts="beams and other cuts: mirostat's is the last and remembers what was drawn",
    ),
    _sampling(
        "dry",
        "Draws each token, those that would go on with a repeat made less likely the longer it is.",
        "No paper: p-e-w 2024, Don't Repeat Yourself (text-generation-webui 5677).",
        dry_multiplier=0.8,
    ),
    _sampling(
        "frequency_penalty",
        "Draws each token, its logit lowered for each time it was written.",
        "OpenAI API reference, frequency_penalty.",
        frequency_penalty=0.5,
    ),
    _sampling(
        "presence_penalty",
        "Draws each token, its logit lowered once it was written.",
        "OpenAI API reference, presence_penalty.",
        presence_penalty=0.5,
    ),
    Strategy(
        "beam",
        "Keeps the num_beams likeliest texts at each step and returns the best.",
        _BEAMS,
        "Sutskever et al. 2014 (1409.3215), section 3.2.",
        {"num_beams": 5},
    ),
    Strategy(
        "beam_sampling",
        "Keeps num_beams texts at once and draws their continuations instead of taking the "
        "likeliest.",
        (*_BEAMS, *_WARPERS),
        "No paper: beam-search multinomial sampling of transformers' `generate`.",
        {"num_beams": 5},
        draws="always",
    ),
    Strategy(
        "diverse_beam",
        "Splits the beams into groups, each of which is kept away from what the earlier ones "
        "chose.",
        ("num_beam_groups", "diversity_penalty", *_BEAMS),
        "Vijayakumar et al. 2016 (1610.02424).",
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
        loop="diverse_beam",
    ),
    Strategy(
        "constrained_beam",
        "Finds the likeliest text that holds every one of force_words.",
        ("force_words", *_BEAMS),
        "Post and Vilar 2018 (1804.06609).",
        {"num_beams": 8},
        needs=("force_words",),
        loop="constrained_beam",
    ),
    Strategy(
        "stochastic_beam",
        "Draws num_beams different texts at once, each as likely as sampling would draw it.",
        ("num_beams", "temperature", *_EVERYWHERE, "num_return_sequences"),
        "Kool, van Hoof and Welling 2019 (1903.06059).",
        {"num_beams": 4},
        draws="always",
        loop="stochastic_beam",
    ),
    Strategy(
        "choices",
        "Writes one of the texts given, token by token along their tree.",
        ("choices", "do_sample", *_SAMPLING),
        "No paper: De Cao et al. 2021 (2010.00904), section 3.2, constrains beams in this way.",
        needs=("choices",),
        draws="asked",
    ),
    Strategy(
        "regex",
        "Writes only what can still become a match of the regular expression, to its end.",
        ("regex", "do_sample", *_SAMPLING),
        "Willard and Louf 2023 (2307.09702).",
        needs=("regex",),
        draws="asked",
    ),
    Strategy(
        "contrastive",
        "Takes of the top_k likeliest tokens the one that is likely and unlike the text so far.",
        ("penalty_alpha", "top_k", *_EVERYWHERE),
        "Su et al. 2022 (2202.06417).",
        {"penalty_alpha": 0.6, "top_k": 4},
        loop="contrastive",
        conflicts="beams and draws: it takes the best-scored candidate",
    ),
    Strategy(
        "dola",
        "Prefers tokens that the last layer likes better than an early one does.",
        ("dola_layers", "do_sample", *_SAMPLING),
        "Chuang et al. 2023 (2309.03883).",
        {"repetition_penalty": 1.2},
        draws="asked",
        loop="dola",
    ),
    Strategy(
        "contrastive_decoding",
        "Prefers tokens that the model likes better than an amateur does.",
        (
            "amateur_model",
            "amateur_layers",
            "amateur_temperature",
            "cd_alpha",
            "cd_beta",
            "do_sample",
            *_SAMPLING,
        ),
        "Li et al. 2023 (2210.15097); as O'Brien and Lewis 2023 (2309.09117) write it.",
        {"cd_beta": 0.5},
        needs=("amateur_model", "amateur_layers"),
        draws="asked",
        conflicts=_NO_BEAMS,
    ),
    Strategy(
        "dexperts",
        "Pulls each token towards a model tuned on what is wanted and away from one tuned on what "
        "isn't.",
        ("expert_model", "antiexpert_model", "dexperts_alpha", "do_sample", *_SAMPLING),
        "Liu et al. 2021 (2105.03023).",
        {"dexperts_alpha": 2.0},
        needs=("expert_model", "antiexpert_model"),
        draws="asked",
        conflicts=_NO_BEAMS,
    ),
    Strategy(
        "guidance",
        "Pulls each token away from what would follow a negative prompt.",
        ("guidance_scale", "negative_prompt", "do_sample", *_SAMPLING),
        "Sanchez et al. 2023 (2306.17806).",
        {"guidance_scale": 1.5},
        draws="asked",
        conflicts="beams and drafts: the other text's memory would not follow them",
    ),
    Strategy(
        "context_aware",
        "Answers from a context, amplifying what the context changes.",
        ("context", "context_alpha", "do_sample", *_SAMPLING),
        "Shi et al. 2023 (2305.14739).",
        {"context_alpha": 0.5},
        needs=("context",),
        draws="asked",
        conflicts="beams and drafts: the other text's memory would not follow them",
    ),
    Strategy(
        "assisted",
        "Lets a small model draft some tokens and keeps those the model would have written.",
        (
            "assistant_model",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
            *_DRAFTS,
        ),
        "Leviathan et al. 2022 (2211.17192); Timor et al. 2025 (2502.05202) for another tokenizer.",
        needs=("assistant_model",),
        draws="asked",
        single="drafts are checked for one text",
        conflicts=_ONE_TOKEN_AT_A_TIME,
    ),
    Strategy(
        "early_exit",
        "Lets the model's own first layers draft some tokens and keeps those all of it would have "
        "written.",
        (
            "assistant_early_exit",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
            *_DRAFTS,
        ),
        "Elhoushi et al. 2024 (2404.16710).",
        {"assistant_early_exit": 1},
        draws="asked",
        single="drafts are checked for one text",
        conflicts=_ONE_TOKEN_AT_A_TIME,
    ),
    Strategy(
        "prompt_lookup",
        "Takes what followed the last tokens where they stood before as a draft.",
        ("prompt_lookup_num_tokens", "max_matching_ngram_size", *_DRAFTS),
        "Saxena 2023, Prompt Lookup Decoding (github.com/apoorvumang).",
        {"prompt_lookup_num_tokens": 10},
        draws="asked",
        single="drafts are checked for one text",
        conflicts=_ONE_TOKEN_AT_A_TIME,
    ),
    Strategy(
        "lookahead",
        "Guesses ahead in parallel, keeps runs of tokens that came up, and tries them as drafts.",
        ("lookahead_window", "lookahead_ngram_size", "lookahead_guesses", *_EVERYWHERE),
        "Fu et al. 2024 (2402.02057).",
        loop="lookahead",
        single="guesses are checked for one text",
        conflicts=_ONE_TOKEN_AT_A_TIME,
    ),
    Strategy(
        "watermark",
        "Favours a secret share of the tokens, so that the text can be told from a person's.",
        (
            "greenlist_ratio",
            "watermark_bias",
            "hashing_key",
            "seeding_scheme",
            "context_width",
            "do_sample",
            *_SAMPLING,
        ),
        "Kirchenbauer et al. 2023 (2301.10226).",
        {"do_sample": True, "top_p": 0.9},
        draws="asked",
    ),
    Strategy(
        "synthid",
        "Draws by a secret tournament, so that the text can be told from a person's.",
        ("synthid_keys", "synthid_ngram_len", *_SAMPLING),
        "Dathathri et al. 2024, Nature 634.",
        {"synthid_keys": [654, 400, 836, 123, 340, 443, 597, 160], "top_p": 0.9},
        draws="always",
    ),
    Strategy(
        "best_of_n",
        "Draws num_candidates texts and returns those of the highest mean log-probability.",
        ("num_candidates", *_SAMPLING),
        "Adiwardana et al. 2020 (2001.09977), sample and rank.",
        {"top_p": 0.9},
        draws="always",
        pick="best_of_n",
    ),
    Strategy(
        "self_consistency",
        "Draws num_candidates texts and returns one with the answer that most of them give.",
        ("answer_pattern", "num_candidates", *_SAMPLING),
        "Wang et al. 2022 (2203.11171).",
        {"temperature": 0.7},
        draws="always",
        pick="self_consistency",
    ),
    Strategy(
        "mbr",
        "Draws num_candidates texts and returns the one most like all others.",
        ("num_candidates", *_SAMPLING),
        "Eikema and Aziz 2020 (2005.10283).",
        draws="always",
        pick="mbr",
    ),
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({row.name: row for row in _TABLE})

_FIRST_OF = {  # the strategy that a setting alone asks for; the first that is found counts
    "mirostat_m": "mirostat_v1", "mirostat_tau": "mirostat", "mirostat_eta": "mirostat",
    "force_words": "constrained_beam", "num_beam_groups": "diverse_beam", "choices": "choices",
    "regex": "regex", "penalty_alpha": "contrastive", "dola_layers": "dola",
    "amateur_model": "contrastive_decoding", "amateur_layers": "contrastive_decoding",
    "expert_model": "dexperts", "antiexpert_model": "dexperts", "context": "context_aware",
    "guidance_scale": "guidance", "negative_prompt": "guidance", "assistant_model": "assisted",
    "assistant_early_exit": "early_exit", "prompt_lookup_num_tokens": "prompt_lookup",
    "lookahead_window": "lookahead", "greenlist_ratio": "watermark", "watermark_bias": "watermark",
    "synthid_keys": "synthid", "answer_pattern": "self_consistency", "num_candidates": "best_of_n",
}  # fmt: skip
_NAMED_AFTER = {
    "xtc_probability": "xtc", "dynatemp_range": "dynamic_temperature",
    "smoothing_factor": "quadratic_smoothing", "top_n_sigma": "top_n_sigma", "top_h": "top_h",
    "tfs_z": "tail_free", "top_a": "top_a", "min_p": "min_p", "typical_p": "typical",
    "epsilon_cutoff": "epsilon", "eta_cutoff": "eta", "top_p": "nucleus", "top_k": "top_k",
}  # fmt: skip


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    hint = did_you_mean(name, STRATEGIES) or f"There are {listed(STRATEGIES)}."
    raise ConfigError(f"strategy: there is no {name!r}. {hint}")


def choose_strategy(given: Mapping[str, Any]) -> str:
    """The strategy that settings amount to where none is named.

    >>> choose_strategy({}), choose_strategy({"num_beams": 4}), choose_strategy({"top_p": 0.8})
    ('greedy', 'beam', 'nucleus')
    >>> choose_strategy({"penalty_alpha": 0.6, "top_k": 4})
    'contrastive'
    """
    on = {name for name, value in given.items() if value != PARAMETERS[name].neutral}
    for name, strategy in _FIRST_OF.items():
        if name in on:
            return strategy
    sampling = bool(WARPERS & given.keys()) or given.get("do_sample") is True
    if "num_beams" in on:
        return "beam_sampling" if sampling else "beam"
    if not sampling:
        return "greedy"
    return next((strategy for name, strategy in _NAMED_AFTER.items() if name in on), "temperature")


def listed(names: Iterable[Any]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)
