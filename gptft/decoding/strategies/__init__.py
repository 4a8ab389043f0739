"""The strategies by name, and every setting they take: one table of methods, one file each.

From a method's entry follow the settings, the options of `gptft generate`, `gptft strategies`, the
check of a config, the docs' tables and what a comparison holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any

from annotated_types import MinLen

from gptft.config.settings import Kind, Setting
from gptft.config.suggest import did_you_mean
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel
from gptft.decoding.strategies import (
    adaptive_p,
    assisted,
    beam,
    best_of,
    choices,
    constrained_beam,
    contrastive,
    contrastive_decoding,
    dexperts,
    diverse_beam,
    dola,
    dry,
    dynamic_temperature,
    frequency,
    grammar,
    greedy,
    guidance,
    json_schema,
    length,
    lookahead,
    mirostat,
    p_less,
    prompt_lookup,
    quadratic_smoothing,
    regex,
    repetition,
    stochastic_beam,
    stock_cuts,
    synthid,
    tail_free,
    temperature,
    tokens,
    top_a,
    top_n_sigma,
    watermark,
    xtc,
)
from gptft.errors import ConfigError

# In the order in which settings and strategies are listed. Of several strategies that settings ask
# for, the last is taken.
METHODS: tuple[define.Method, ...] = tuple(
    module.METHOD
    for module in (
        length, repetition, tokens, greedy, temperature, stock_cuts, top_n_sigma, top_a, tail_free,
        dynamic_temperature, quadratic_smoothing, p_less, xtc, mirostat, adaptive_p, frequency, dry,
        beam, diverse_beam, constrained_beam, stochastic_beam, choices, regex, json_schema,
        grammar, contrastive, dola, contrastive_decoding, dexperts, guidance, assisted,
        prompt_lookup, lookahead, watermark, synthid, best_of,
    )
)  # fmt: skip

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        row.name: replace(row, group=row.group or method.group)
        for method in METHODS
        for row in method.settings
    }
)
# Every key of a config's `generation` section.
GENERATION: Mapping[str, Setting] = MappingProxyType(
    {
        "strategy": Setting(
            "strategy",
            Annotated[str, MinLen(1), Kind("name", "a strategy's name", "name")],
            "greedy",
            "By name, or the settings decide.",
            aliases=("strategy_name",),
        ),
        **SETTINGS,
    }
)
# Those that every strategy may have, in the order in which they act.
PROCESSORS = tuple(
    sorted((one for method in METHODS for one in method.processors), key=lambda one: one.order)
)
# Where a setting does nothing unless one of others is on.
SWITCHES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        dependent: tuple(other.name for other in PROCESSORS if dependent in other.settings)
        for one in PROCESSORS
        for dependent in one.settings
    }
)
_GROUPS = {
    define.CUTS: [name for one in PROCESSORS if one.is_cut for name in (one.name, *one.settings)],
    define.ALWAYS: [
        row.name
        for group in define.ALWAYS_GROUPS
        for row in SETTINGS.values()
        if row.group == group
    ],
}
WARPERS = frozenset(_GROUPS[define.CUTS])
SHARED = WARPERS | {*_GROUPS[define.ALWAYS], "num_return_sequences", "do_sample"}


def _registered(row: define.Strategy) -> define.Strategy:
    """A strategy as it is declared, with its settings in full."""
    names = dict.fromkeys(name for given in row.takes for name in _GROUPS.get(given, [given]))
    own = tuple(name for name in names if name in row.defaults or name not in SHARED)
    return replace(row, takes=tuple(names), own=own, settings={n: SETTINGS[n] for n in names})


STRATEGIES: Mapping[str, define.Strategy] = MappingProxyType(
    {row.name: _registered(row) for method in METHODS for row in method.strategies}
)


def active_processors(settings: define.Values) -> list[define.Processor]:
    """What changes the logits under these settings, in the order in which it acts."""
    own = (
        one
        for one in STRATEGIES[settings.strategy].processors
        if one.when is None or one.when(settings)
    )
    shared = (one for one in PROCESSORS if one.is_on(settings))
    last = settings["temperature_last"]
    return sorted([*own, *shared], key=lambda one: one.place(temperature_last=last))


def problems_of(settings: define.Values) -> Iterator[str]:
    """One message for each pair of settings that can't both be had."""
    for method in METHODS:
        yield from method.check(settings)
    yield from STRATEGIES[settings.strategy].check(settings)


def model_problems(settings: define.Values, model: KnownModel) -> Iterator[str]:
    """One message for each setting that a model can't have."""
    for method in METHODS:
        yield from method.check_model(settings, model)


def find_strategy(name: str) -> define.Strategy:
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
    on = {name for name, value in given.items() if value != SETTINGS[name].neutral}
    asked = [row for row in STRATEGIES.values() if on.intersection(row.asked_by)]
    row = asked[-1] if asked else STRATEGIES["greedy"]
    draws = bool(WARPERS & given.keys()) or given.get("do_sample") is True
    return row.when_drawing if draws and row.when_drawing else row.name


def listed(names: Iterable[Any]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)
