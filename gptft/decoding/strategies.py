"""The strategies by name, and a config's settings -> everything `generate` is to be told.

In: a `generation` section, in which None means not given. Out: frozen `Settings` that leave nothing
to a library's or a model's defaults. Strategies are rows of a table, each naming the parameters it
uses; a setting that the chosen strategy would ignore is an error. Pure: must not import torch or
transformers.
"""

import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from gptft.config.sections import GenerationConfig
from gptft.config.suggest import did_you_mean
from gptft.errors import ConfigError

Value = int | float | bool | str

MAX_SEED = 2**32 - 1  # what numpy takes, and so the same range as training.seed
_DRAWN_SEEDS = 2**31


@dataclass(frozen=True)
class Parameter:
    """A setting as one strategy uses it.

    Attributes:
        name: as transformers spells it.
        default: of this strategy.
        at_least: the lowest value allowed.
        above: the value it must exceed.
        at_most: the highest value allowed.
        hint: what to do instead, where a value is out of range.
    """

    name: str
    default: Value
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    hint: str = ""

    def problem(self, value: Value) -> str | None:
        """What is wrong with `value`, in words, or None.

        >>> Parameter("top_p", 1.0, above=0.0, at_most=1.0).problem(1.5)
        'top_p must be at most 1.0, not 1.5.'
        """
        if isinstance(value, bool | str):
            return None
        if not math.isfinite(value):
            return f"{self.name} must be a finite number, not {value}."
        wanted = None
        if self.at_least is not None and value < self.at_least:
            wanted = f"at least {self.at_least:g}"
        elif self.above is not None and value <= self.above:
            wanted = f"above {self.above:g}"
        elif self.at_most is not None and value > self.at_most:
            wanted = f"at most {self.at_most}"
        return wanted and f"{self.name} must be {wanted}, not {value}. {self.hint}".rstrip()


@dataclass(frozen=True)
class Strategy:
    """A named way to decode.

    Attributes:
        name: what a config and the command line call it.
        description: what it does, in one sentence.
        parameters: the settings it uses, with its own defaults and ranges.
        source: where it was described.
        do_sample: whether it draws tokens, and so needs a seed.
        beams: whether it keeps several texts at once.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    source: str
    do_sample: bool = False
    beams: bool = False

    @property
    def defaults(self) -> dict[str, Value]:
        """Its parameters' defaults by name, in the order they are shown."""
        return {parameter.name: parameter.default for parameter in self.parameters}


@dataclass(frozen=True)
class Settings:
    """Everything a text depends on besides model and prompt; a default here changes nothing.

    Attributes:
        strategy: its name.
        do_sample: draw tokens instead of taking the likeliest.
        num_beams: texts kept at once.
        temperature: logits are divided by it before tokens are drawn.
        top_k: draw from the k likeliest tokens; 0 from all.
        top_p: draw from the likeliest tokens that reach this probability.
        length_penalty: a beam's log-probability is divided by its length to this power.
        early_stopping: whether beams stop at num_beams ended texts.
        repetition_penalty: above 1 lowers the logits of tokens already in the text.
        no_repeat_ngram_size: no n tokens occur twice; 0 allows it.
        max_new_tokens: tokens written at most, EOS counted.
        min_new_tokens: no EOS before so many.
        num_return_sequences: texts a prompt.
        seed: of the draws; None where none was given.
    """

    strategy: str
    do_sample: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    max_new_tokens: int = 60
    min_new_tokens: int = 0
    num_return_sequences: int = 1
    seed: int | None = None

    def to_dict(self) -> dict[str, Value]:
        """Every setting by name but strategy and seed."""
        return {k: v for k, v in asdict(self).items() if k not in ("strategy", "seed")}

    def sentence(self) -> str:
        """The strategy and every setting it uses, seed included, in one line.

        >>> Settings("greedy").sentence()[:40]
        'greedy: repetition_penalty 1.0, no_repea'
        """
        values = {name: getattr(self, name) for name in STRATEGIES[self.strategy].defaults}
        if self.do_sample:
            values["seed"] = self.seed
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
        idle = self.seed is not None and not self.do_sample
        return f"{self.strategy}: {shown}" + (" (it draws nothing: no seed is used)" * idle)


_NEUTRAL: dict[str, Any] = {field.name: field.default for field in fields(Settings)}

_TEMPERATURE = Parameter(
    "temperature", 1.0, at_least=1e-6, hint="For the likeliest token each time take greedy."
)
_TOP_K = Parameter("top_k", 0, at_least=0)
_TOP_P = Parameter("top_p", 1.0, above=0.0, at_most=1.0)
_SEQUENCES = Parameter("num_return_sequences", 1, at_least=1)
_BEAMS = (
    Parameter("num_beams", 5, at_least=2, hint="One beam is no beam search: take greedy."),
    Parameter("length_penalty", 1.0),
    Parameter("early_stopping", False),
)
_EVERYWHERE = (
    Parameter("repetition_penalty", 1.0, above=0.0, hint="1 turns it off."),
    Parameter("no_repeat_ngram_size", 0, at_least=0, hint="0 turns it off."),
    Parameter("max_new_tokens", 60, at_least=1),
    Parameter("min_new_tokens", 0, at_least=0),
)
_SEED = Parameter("seed", 0, at_least=0, at_most=MAX_SEED)

_TABLE = (
    Strategy(
        name="greedy",
        description="Takes the likeliest token at each step.",
        parameters=_EVERYWHERE,
        source="No paper: the argmax of p(token | text so far).",
    ),
    Strategy(
        name="beam",
        description="Keeps the num_beams likeliest texts at each step and returns the best.",
        parameters=(*_BEAMS, *_EVERYWHERE, _SEQUENCES),
        source="Sutskever et al. 2014 (1409.3215), section 3.2.",
        beams=True,
    ),
    Strategy(
        name="temperature",
        description="Draws each token from the whole distribution, its logits divided by "
        "temperature: below 1 safer, above 1 bolder.",
        parameters=(_TEMPERATURE, _TOP_K, _TOP_P, *_EVERYWHERE, _SEQUENCES),
        source="Ackley, Hinton and Sejnowski 1985, A Learning Algorithm for Boltzmann Machines.",
        do_sample=True,
    ),
    Strategy(
        name="top_k",
        description="Draws each token from the k likeliest.",
        parameters=(
            replace(_TOP_K, default=50),
            _TEMPERATURE,
            _TOP_P,
            *_EVERYWHERE,
            _SEQUENCES,
        ),
        source="Fan et al. 2018 (1805.04833).",
        do_sample=True,
    ),
    Strategy(
        name="nucleus",
        description="Draws each token from the fewest likeliest ones that together reach the "
        "probability top_p.",
        parameters=(
            replace(_TOP_P, default=0.9),
            _TEMPERATURE,
            _TOP_K,
            *_EVERYWHERE,
            _SEQUENCES,
        ),
        source="Holtzman et al. 2020 (1904.09751), section 3.1.",
        do_sample=True,
    ),
    Strategy(
        name="beam_sampling",
        description="Keeps num_beams texts at once and draws their continuations instead of "
        "taking the likeliest.",
        parameters=(*_BEAMS, _TEMPERATURE, _TOP_K, _TOP_P, *_EVERYWHERE, _SEQUENCES),
        source="No paper: beam-search multinomial sampling of transformers' `generate`.",
        do_sample=True,
        beams=True,
    ),
)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({row.name: row for row in _TABLE})

_SAMPLING = (_TEMPERATURE.name, _TOP_K.name, _TOP_P.name)
_NAMED_AFTER = {"nucleus": _TOP_P.name, "top_k": _TOP_K.name}


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    hint = did_you_mean(name, STRATEGIES) or f"There are {_listed(STRATEGIES)}."
    raise ConfigError(f"strategy: there is no {name!r}. {hint}")


def choose_strategy(given: Mapping[str, Value]) -> str:
    """The strategy that settings amount to where none is named.

    >>> choose_strategy({}), choose_strategy({"num_beams": 4}), choose_strategy({"top_p": 0.8})
    ('greedy', 'beam', 'nucleus')
    """
    sampling = any(name in given for name in _SAMPLING)
    num_beams = given.get("num_beams", 1)
    if isinstance(num_beams, int) and num_beams > 1:
        return "beam_sampling" if sampling else "beam"
    if not sampling:
        return "greedy"
    cuts = (
        s for s, name in _NAMED_AFTER.items() if given.get(name, _NEUTRAL[name]) != _NEUTRAL[name]
    )
    return next(cuts, "temperature")


def resolve_settings(section: GenerationConfig) -> Settings:
    """Settings in full: the strategy's defaults with what `section` gives over them.

    Args:
        section: None in a field means not given. A neutral value (num_beams 1, temperature 1.0) is
            no contradiction to a strategy that doesn't use it.

    Raises:
        ConfigError: an unknown strategy, values out of range, settings the strategy would ignore,
            or settings that don't go together; all of them at once.
    """
    given = section.model_dump(exclude_none=True)
    named = given.pop("strategy", None)
    seed = given.pop("seed", None)
    strategy = find_strategy(named if named is not None else choose_strategy(given))
    used = {name: value for name, value in given.items() if name in strategy.defaults}
    values = {**strategy.defaults, **used}
    problems = _ignored(strategy, given, is_named=named is not None)
    problems += [p for row in strategy.parameters if (p := row.problem(values[row.name]))]
    problems += [p for p in [_SEED.problem(seed)] if p] if seed is not None else []
    problems += [] if problems else _at_odds(strategy, values)
    if problems:
        raise ConfigError(*problems)
    return replace(Settings(strategy.name, strategy.do_sample, seed=seed), **values)


def with_seed(settings: Settings) -> Settings:
    """The same settings with a seed drawn where tokens are drawn and none was given."""
    if not settings.do_sample or settings.seed is not None:
        return settings
    return replace(settings, seed=secrets.randbelow(_DRAWN_SEEDS))


def why_not_streamed(settings: Settings, *, num_prompts: int) -> str | None:
    """Why a text can't be shown while it is being written, or None where it can."""
    if settings.num_beams > 1:
        return f"{settings.strategy} knows its text only when the last beam has ended"
    if settings.num_return_sequences > 1:
        return f"num_return_sequences is {settings.num_return_sequences}, and texts would mix"
    if num_prompts != 1:
        return f"there are {num_prompts} prompts, and only one text can be shown at once"
    return None


def _ignored(strategy: Strategy, given: Mapping[str, Value], *, is_named: bool) -> list[str]:
    """One message for each setting given that `strategy` has no use for."""
    who = strategy.name if is_named else f"{strategy.name}, which these settings amount to,"
    problems = []
    for name, value in given.items():
        if name in strategy.defaults or value == _NEUTRAL[name]:
            continue
        users = _listed(row.name for row in _TABLE if name in row.defaults)
        problems.append(
            f"{name} is {_shown(value)}, and {who} doesn't use it. It is for {users}: "
            f"take one of these as strategy, or leave {name} out."
        )
    return problems


def _at_odds(strategy: Strategy, values: Mapping[str, Any]) -> list[str]:
    """One message for each pair of settings that can't both be had."""
    problems = []
    least, most = values["min_new_tokens"], values["max_new_tokens"]
    if least > most:
        problems.append(
            f"min_new_tokens is {least:,}, more than max_new_tokens, {most:,}. "
            "Lower the one or raise the other."
        )
    if strategy.beams and values["num_return_sequences"] > values["num_beams"]:
        problems.append(
            f"num_return_sequences is {values['num_return_sequences']}, more than num_beams, "
            f"{values['num_beams']}: a beam gives one text. Raise num_beams."
        )
    return problems


def _listed(names: Any) -> str:
    """Names in a sentence.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)


def _shown(value: Value | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
