"""A YAML file of settings to try -> the runs of a sweep, each with a name of its own."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from gptft.config.load import Given
from gptft.config.sections import Config
from gptft.config.source import KeyPath, Problem, Source, read_yaml
from gptft.config.suggest import did_you_mean
from gptft.errors import ConfigError
from gptft.terminal.words import short_number, short_value, wrong_value

MAX_RUNS = 1_000
_EXAMPLE = "grid: {training.learning_rate: [1e-3, 1e-4], training.seed: [1, 2]}"
_KINDS = ("grid", "runs")
_NOT_IN_A_NAME = re.compile(r"[^\w.+-]+")
_MAX_VALUE, _MAX_NAME = 40, 120  # bytes: file systems take 255 a name
_HASH = 8  # hexadecimal digits of what had to be shortened
_OUTPUT_DIR = "training.output_dir"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: what its settings are, as a folder can be called; the same settings give the same.
        settings: by their full names.
        given: the same, as `read_config` takes them.
    """

    name: str
    settings: Mapping[str, Any]
    given: tuple[Given, ...]


def read_sweep(path: Path) -> tuple[SweepRun, ...]:
    """The runs that a file asks for: all combinations of `grid`, then each of `runs`.

    Raises:
        ConfigError: every problem found, each with its place.
    """
    source = read_yaml(path)
    problems = [*source.problems, *_shape_problems(source)] or [*_setting_problems(source)]
    if problems:
        raise ConfigError(*(message for _, message in sorted(problems)))
    _check_number(source)
    runs = [_run(source, asked) for asked in _asked(source)]
    seen: set[str] = set()
    for run in runs:
        if run.name in seen:
            raise ConfigError(
                f"{run.given[-1].place}  the run {run.name} is asked for twice. Leave one out."
            )
        seen.add(run.name)
    return tuple(runs)


def name_of(settings: Mapping[str, Any]) -> str:
    """What settings are, in a word that any file system takes and no shell needs quotes for.

    >>> name_of({"training.seed": 1, "training.learning_rate": 1e-4, "model.name": "runs/my poem"})
    'learning_rate=0.0001,model.name=runs_my_poem-28916399,seed=1'
    """
    parts = sorted(
        f"{_NOT_IN_A_NAME.sub('_', name.removeprefix('training.'))}={_word(value)}"
        for name, value in settings.items()
    )
    return _shortened(",".join(parts), settings, at_most=_MAX_NAME)


def _word(value: Any) -> str:
    """A value in a name, with a hash of it where another value would read the same."""
    plain = short_value(value)
    word = _NOT_IN_A_NAME.sub("_", plain)
    is_exact = word == plain and not isinstance(value, list | Mapping)
    return _shortened(word if is_exact else f"{word}-{_digest(value)}", value, at_most=_MAX_VALUE)


def _shortened(word: str, value: Any, *, at_most: int) -> str:
    if len(word.encode()) <= at_most:
        return word
    beginning = word.encode()[: at_most - _HASH - 1].decode(errors="ignore")
    return f"{beginning}-{_digest(value)}"


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:_HASH]


def _shape_problems(source: Source) -> Iterator[Problem]:
    """What isn't a grid of lists and a list of runs."""
    for name, value in source.values.items():
        if name not in _KINDS:
            hint = did_you_mean(name, _KINDS) or f"A sweep has grid and runs: {_EXAMPLE}"
            yield source.problem((name,), f"{name} is nothing that a sweep has. {hint}")
        elif value is None:
            continue
        elif name == "grid" and not isinstance(value, dict):
            yield source.problem(
                (name,), f"grid must be settings with their values, not {wrong_value(value)}."
            )
        elif name == "runs" and not isinstance(value, list):
            yield source.problem(
                (name,), f"runs must be a list of settings, not {wrong_value(value)}."
            )
    runs = source.values.get("runs")
    for number, item in enumerate(runs if isinstance(runs, list) else []):
        if not isinstance(item, dict) or not item:
            yield source.problem(
                ("runs", number),
                f"a run must be settings, such as {{training.seed: 1}}, not {wrong_value(item)}.",
            )
    grid = source.values.get("grid")
    for name, values in grid.items() if isinstance(grid, dict) else ():
        if not isinstance(values, list) or not values:
            yield source.problem(
                ("grid", name),
                f"{name} must have a list of values, such as [1, 2], not {wrong_value(values)}.",
            )


def _setting_problems(source: Source) -> Iterator[Problem]:
    """Names that no run of a sweep can set."""
    grid, runs = source.values.get("grid") or {}, source.values.get("runs") or []
    named: list[KeyPath] = [("grid", name) for name in grid]
    named += [("runs", number, name) for number, item in enumerate(runs) for name in item]
    for path in named:
        name = str(path[-1])
        if name == _OUTPUT_DIR:
            said = "is the folder that all runs of a sweep go below. Set it in the config."
        elif name in Config.model_fields:
            said = f"is a section. Name each setting in full, such as {name}.…: …"
        elif not all(name.split(".")):
            said = "is no setting's name."
        else:
            continue
        yield source.problem(path, f"{name} {said}")


def _check_number(source: Source) -> None:
    grid, runs = source.values.get("grid") or {}, source.values.get("runs") or []
    number = (math.prod(len(values) for values in grid.values()) if grid else 0) + len(runs)
    if not number:
        raise ConfigError(f"{source.name} asks for no run. Write {_EXAMPLE}")
    if number > MAX_RUNS:
        raise ConfigError(
            f"{source.name} asks for {short_number(number)} runs; {MAX_RUNS:,} are the most. Leave "
            "values out, or list the runs that matter below runs:."
        )


def _asked(source: Source) -> Iterator[dict[KeyPath, Any]]:
    """The settings of each run, by the place where they are written."""
    grid, runs = source.values.get("grid") or {}, source.values.get("runs") or []
    axes = [
        [(("grid", name, number), value) for number, value in enumerate(values)]
        for name, values in grid.items()
    ]
    for combination in itertools.product(*axes) if axes else ():
        yield dict(combination)
    for number, item in enumerate(runs):
        yield {("runs", number, name): value for name, value in item.items()}


def _run(source: Source, asked: Mapping[KeyPath, Any]) -> SweepRun:
    settings: dict[str, Any] = {}
    given = []
    for path, value in asked.items():
        name = str(path[1] if path[0] == "grid" else path[2])
        settings[name] = value
        given.append(Given(tuple(name.split(".")), value, _place(source, path)))
    return SweepRun(name_of(settings), settings, tuple(given))


def _place(source: Source, path: KeyPath) -> str:
    return source.problem(path, "")[1].rstrip()
