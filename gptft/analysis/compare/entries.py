"""Names of strategies -> what to run for each, so that they can be compared.

Where a strategy needs something that nobody gave, a stand-in is taken that makes sense for any
text, and the entry says so.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gptft.analysis.compare.results import StrategyEntry
from gptft.config.settings import read_settings
from gptft.config.suggest import did_you_mean
from gptft.decoding.define import Strategy
from gptft.decoding.settings import MODEL_SETTINGS, resolve_settings
from gptft.decoding.strategies import (
    GENERATION,
    SETTINGS,
    STRATEGIES,
    SWITCHES,
    WARPERS,
    choose_strategy,
    find_strategy,
    listed,
)
from gptft.errors import ConfigError
from gptft.terminal.words import short_value

_ONE_TEXT = "num_return_sequences"


def shared_settings(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config's `generation` goes for every strategy: lengths, words, penalties, the seed.

    Its strategy, and what that one cuts or searches by, is one way among those that are compared.

    >>> shared_settings({"strategy": "nucleus", "top_p": 0.9, "max_new_tokens": 30})
    {'max_new_tokens': 30}
    """
    groups = ("length", "repetition", "tokens")
    return {
        name: value
        for name, value in generation.items()
        if name in SETTINGS and (name == "seed" or SETTINGS[name].group in groups)
    }


def comparison_entries(
    names: Sequence[str] | None,
    *,
    own: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any],
    base_model: str | None,
    prompt: str,
) -> list[StrategyEntry]:
    """What to run for each strategy that is to be compared.

    Args:
        names: of strategies, a config's own among them; None for all of ours and then all of the
            config's.
        own: the config's own strategies by name.
        shared: settings for all that take them, by name, such as max_new_tokens and seed. One that
            a strategy has no use for is left out there.
        base_model: what the model was tuned from; None where it wasn't, or that isn't known.
        prompt: the text to continue, which stand-ins are taken from.

    Returns:
        an entry a name, in order; a name given twice counts once.

    Raises:
        ConfigError: an unknown strategy, or shared settings that are wrong or that none of the
            strategies uses; all of them at once.

    >>> nothing = dict(own={}, shared={}, base_model=None)
    >>> entries = comparison_entries(["choices", "context_aware"], prompt="one two 3 4", **nothing)
    >>> [entry.stand_ins for entry in entries]
    [{'choices': [' yes', ' no']}, {'context': 'one two'}]
    """
    given = _read_shared(shared)
    if names is None:
        names = [*STRATEGIES, *own]
    names = list(dict.fromkeys(names))
    _check_names(names, own)
    entries, used = [], set[str]()
    for name in names:
        values = own.get(name, {"strategy": name})
        strategy = find_strategy(values.get("strategy") or choose_strategy(_read(values)))
        fitting = _fitting(strategy, given, values=values)
        used |= fitting.keys()
        entries.append(_entry(name, strategy, {**values, **fitting}, base_model, prompt))
    _check_used(given, used=used)
    return entries


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    meant, _ = read_settings(values, table=GENERATION)
    return {name: value for name, value in meant.items() if name not in ("strategy", "seed")}


def _read_shared(shared: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings in the types they are meant in."""
    given, wrong = read_settings(shared, table=GENERATION)
    problems = [f"{name} {message}" for name, message in wrong]
    number = given.pop(_ONE_TEXT, 1)
    if number > 1:
        problems.append(
            f"{_ONE_TEXT} is {number}, and a comparison has one text a strategy. Leave it out."
        )
    if "strategy" in given:
        problems.append(
            f"strategy is {given['strategy']}, and a comparison has several. Leave it out."
        )
    if problems:
        raise ConfigError(*problems)
    return given


def _check_names(names: Sequence[str], own: Mapping[str, Any]) -> None:
    known = [*STRATEGIES, *own]
    problems = []
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {listed(known)}."
            problems.append(f"There is no strategy {name!r} to compare. {hint}")
    if not names:
        problems.append("There is no strategy to compare. Name one or more, or take all.")
    if problems:
        raise ConfigError(*problems)


def _check_used(given: Mapping[str, Any], *, used: set[str]) -> None:
    problems = [
        f"{name} is {short_value(value)}, and none of the strategies compared uses it. "
        "Leave it out."
        for name, value in given.items()
        if name not in used and name != "seed" and value != SETTINGS[name].neutral
    ]
    if problems:
        raise ConfigError(*problems)


def _fitting(
    strategy: Strategy, given: Mapping[str, Any], *, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Of shared settings those that change something for a strategy."""
    taken = {n: v for n, v in given.items() if n in strategy.takes or n == "seed"}
    together = {**strategy.values, **_read(values), **taken}

    def is_on(name: str) -> bool:
        return bool(together.get(name) != SETTINGS[name].neutral)

    def has_effect(name: str) -> bool:
        if name in SWITCHES:
            return any(map(is_on, SWITCHES[name]))
        draws = strategy.draws == "always" or together.get("do_sample") is True
        return name not in WARPERS or draws or strategy.draws == "never"

    return {name: value for name, value in taken.items() if has_effect(name)}


def _entry(
    label: str, strategy: Strategy, values: Mapping[str, Any], base_model: str | None, prompt: str
) -> StrategyEntry:
    """A strategy with what it needs, or why it can't be run."""
    entry = partial(StrategyEntry, label, strategy.name)
    stand_ins: Mapping[str, Any] = {}
    if strategy.needs and not any(values.get(name) for name in strategy.needs):
        made = strategy.stand_ins(prompt, base_model)
        stand_ins = {name: value for name, value in made.items() if value}
        if not stand_ins:
            return entry(None, left_out=_wanting(strategy))
    try:
        settings = resolve_settings({**values, **stand_ins, "strategy": strategy.name})
    except ConfigError as error:
        return entry(None, stand_ins, left_out=" ".join(error.problems))
    if _ONE_TEXT in settings.values:
        settings = settings.changed(**{_ONE_TEXT: 1})
    own_prompt = None
    if context := stand_ins.get("context"):
        # Where the whole prompt is the context, it is also what is continued.
        own_prompt = prompt.removeprefix(context) if prompt.startswith(context) else prompt
    return entry(settings, stand_ins, own_prompt)


def _wanting(strategy: Strategy) -> str:
    """Why a strategy is left out that needs what nobody gave."""
    needs = f"It needs {' or '.join(strategy.needs)}"
    if any(name in MODEL_SETTINGS for name in strategy.needs):
        return (
            f"{needs}. The base that a model was tuned from would stand in, and none is known of "
            "this one: name a model."
        )
    return f"{needs}, and the prompt has no word to make a stand-in of: give it."
