"""A config's settings -> everything `generate` is to be told, or what can't be had.

Nothing is left to a library's or a model's defaults, and a setting that the chosen strategy would
ignore is an error.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gptft.config.settings import read_settings
from gptft.decoding.define import Strategy
from gptft.decoding.strategies import (
    GENERATION,
    SETTINGS,
    STRATEGIES,
    SWITCHES,
    WARPERS,
    choose_strategy,
    find_strategy,
    listed,
    problems_of,
)
from gptft.errors import ConfigError
from gptft.terminal.words import first_of, short_value

_DRAWN_SEEDS = 2**31
BATCH_SIZE = 16  # texts at once, unless told; the memory for keys and values grows with it
_ALWAYS_SHOWN = ("max_new_tokens",)

# Settings that name a model.
MODEL_SETTINGS = ("assistant_model", "amateur_model", "expert_model", "antiexpert_model")


@dataclass(frozen=True)
class Settings:
    """Everything a text depends on besides model and prompt.

    Attributes:
        strategy: its name.
        values: every setting that the strategy uses, by name; all others are neutral.
        seed: of the draws; None where none was given.
    """

    strategy: str
    values: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __getitem__(self, name: str) -> Any:
        """A setting by name, neutral where the strategy has no use for it."""
        return self.values.get(name, SETTINGS[name].neutral)

    @property
    def row(self) -> Strategy:
        """The strategy's row of the table."""
        return STRATEGIES[self.strategy]

    @property
    def do_sample(self) -> bool:
        """Whether tokens are drawn."""
        return self.row.draws == "always" or bool(self["do_sample"])

    @property
    def draws_together(self) -> bool:
        """Whether tokens are drawn, and prompts of a batch draw what each would alone.

        Not where a loop draws by itself, or a draft is tried: what they draw goes by all rows.
        """
        row = self.row
        return self.do_sample and row.loop is None and not (row.beams or row.single)

    @property
    def num_drawn(self) -> int:
        """Texts written for a prompt, of which some may not be returned."""
        if self.row.beams:
            return int(self["num_beams"])  # some may be the same
        number = self["num_return_sequences" if self.row.pick == "all" else "num_candidates"]
        return int(number)

    def is_on(self, name: str) -> bool:
        """Whether a setting changes anything."""
        return bool(self[name] != SETTINGS[name].neutral)

    def named(self, *names: str) -> dict[str, Any]:
        """Some settings by name."""
        return {name: self[name] for name in names}

    def changed(self, **values: Any) -> "Settings":
        """The same settings with other values."""
        return replace(self, values={**self.values, **values})

    def to_dict(self) -> dict[str, Any]:
        """Every setting in force by name, `do_sample` among them; not strategy and seed."""
        return {**self.values, "do_sample": self.do_sample}

    def sentence(self) -> str:
        """The strategy, its own settings, and every other that changes something, in one line.

        >>> resolve_settings({"strategy": "greedy"}).sentence()
        'greedy: max_new_tokens 60'
        >>> resolve_settings({"top_p": 0.8, "seed": 3}).sentence()
        'nucleus: top_p 0.8, max_new_tokens 60, seed 3'
        """
        row = self.row
        always = (*_ALWAYS_SHOWN, *(name for name in row.own if self[name] is not None))
        names = [name for name in self.values if self.is_on(name) or name in always]
        words = [f"{name} {short_value(self[name])}" for name in names]
        if self.do_sample:
            words.append(f"seed {self.seed}")
        idle = self.seed is not None and not self.do_sample
        return f"{row.name}: {', '.join(words)}" + " (it draws nothing: no seed is used)" * idle


def resolve_settings(given: Mapping[str, Any]) -> Settings:
    """Settings in full: the strategy's own with what is given over them.

    Args:
        given: by name, `strategy` and `seed` among them; types are coerced. A neutral value
            (num_beams 1, temperature 1.0) is no contradiction to a strategy that doesn't use it.

    Raises:
        ConfigError: an unknown strategy, values of the wrong type or out of range, settings the
            strategy would ignore, or settings that don't go together; all of them at once.
    """
    meant, wrong = read_settings(given, table=GENERATION)
    problems = [f"{name} {message}" for name, message in wrong]
    named = meant.pop("strategy", None)
    seed = meant.pop("seed", None)
    try:
        strategy = find_strategy(named if named is not None else choose_strategy(meant))
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from None
    used = {name: value for name, value in meant.items() if name in strategy.takes}
    settings = Settings(strategy.name, {**strategy.values, **used}, seed=seed)
    problems += _ignored(strategy, meant, is_named=named is not None)
    if not problems:
        problems += _missing(strategy, settings)
        problems += _without_effect(settings, given=used)
        problems += problems_of(settings)
    if problems:
        raise ConfigError(*problems)
    return settings


def choose_settings(
    generation: Mapping[str, Any],
    strategies: Mapping[str, Mapping[str, Any]],
    *,
    given: Mapping[str, Any],
) -> Settings:
    """The settings of a config, or of one of its own strategies, with flags over them.

    Args:
        generation: the config's section.
        strategies: the config's own strategies by name.
        given: flags; `strategy` may name one of the config's own.

    Raises:
        ConfigError: see `resolve_settings`.
    """
    name = given.get("strategy")
    if not isinstance(name, str) or name not in strategies:
        return resolve_settings({**generation, **given})
    flags = {key: value for key, value in given.items() if key != "strategy"}
    return resolve_settings({**strategies[name], **flags})


def check_strategies(strategies: Mapping[str, Mapping[str, Any]]) -> None:
    """Check a config's own strategies.

    Raises:
        ConfigError: one has the name of a strategy of ours, or can't be had; all at once.
    """
    problems = []
    for name, values in strategies.items():
        if name in STRATEGIES:
            problems.append(f"strategies.{name}: there is a strategy of that name. Take another.")
            continue
        try:
            resolve_settings(values)
        except ConfigError as error:
            problems += [f"strategies.{name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(*problems)


def with_seed(settings: Settings) -> Settings:
    """The same settings with a seed drawn where tokens are drawn and none was given."""
    if not settings.do_sample or settings.seed is not None:
        return settings
    return replace(settings, seed=secrets.randbelow(_DRAWN_SEEDS))


def why_not_streamed(settings: Settings, *, num_prompts: int) -> str | None:
    """Why a text can't be shown while it is being written, or None where it can."""
    row = settings.row
    if row.beams:
        return f"{row.name} knows its text only when the last beam has ended"
    if row.pick != "all":
        return f"{row.name} chooses among texts that are whole"
    if row.loop is not None and not row.streams:
        return f"{row.name} hands its text over when it is whole"
    if settings["num_return_sequences"] > 1:
        return f"num_return_sequences is {settings['num_return_sequences']}, and texts would mix"
    if settings["stop_strings"]:
        return "a stop string is taken off a text that is whole"
    if settings["token_healing"]:
        return "token_healing changes the prompt's last word"
    if num_prompts != 1:
        return f"there are {num_prompts} prompts, and only one text can be shown at once"
    return None


def _ignored(strategy: Strategy, given: Mapping[str, Any], *, is_named: bool) -> Iterator[str]:
    """One message for each setting given that `strategy` has no use for."""
    who = strategy.name if is_named else f"{strategy.name}, which these settings amount to,"
    for name, value in given.items():
        if name in strategy.takes:
            continue
        if name == "do_sample" and strategy.draws == "always":
            if not value:
                yield f"do_sample is false, and {who} always draws. Leave it out, or take greedy."
            continue
        if value == SETTINGS[name].neutral:
            continue
        why = f" It can't be combined with {strategy.conflicts}." if strategy.conflicts else ""
        yield (
            f"{name} is {short_value(value)}, and {who} doesn't use it.{why} It is for "
            f"{users_of(name)}: take one of these as strategy, or leave {name} out."
        )


def users_of(name: str, *, at_most: int = 6) -> str:
    """The strategies that use a setting, in words.

    >>> users_of("force_words"), users_of("length_penalty")[:24]
    ('constrained_beam', 'beam, beam_sampling, div')
    """
    names = [row.name for row in STRATEGIES.values() if name in row.takes]
    return first_of(names, at_most) if len(names) > at_most else listed(names)


def _missing(strategy: Strategy, settings: Settings) -> Iterator[str]:
    if strategy.needs and not any(settings.is_on(name) for name in strategy.needs):
        meanings = [f"{name} ({SETTINGS[name].description})" for name in strategy.needs]
        yield f"{strategy.name} needs {' or '.join(meanings)} Set it."


def _without_effect(settings: Settings, *, given: Mapping[str, Any]) -> Iterator[str]:
    for name, switches in SWITCHES.items():
        if name in given and settings.is_on(name) and not any(map(settings.is_on, switches)):
            now = listed(f"{switch} is {short_value(settings[switch])}" for switch in switches)
            yield (
                f"{name} is {short_value(given[name])} and has no effect while {now}. "
                f"Set {' or '.join(switches)}, or leave {name} out."
            )
    if settings.row.draws == "asked" and not settings.do_sample:
        for name in given:
            if name in WARPERS and settings.is_on(name):
                yield (
                    f"{name} is {short_value(given[name])} and has no effect while "
                    f"{settings.strategy} draws nothing. Set do_sample: true, or leave {name} out."
                )
        if settings["num_return_sequences"] > 1:
            yield (
                f"num_return_sequences is {settings['num_return_sequences']}, and without "
                "do_sample: true all texts would be the same."
            )
