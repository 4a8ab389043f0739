"""A config and a sweep -> one run after another, each in its own folder, and their comparison."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gptft.api.check import check_file
from gptft.api.configs import read_config
from gptft.api.training import train
from gptft.config.load import ConfigFile, Given, Override
from gptft.config.sweep import SweepRun, read_sweep
from gptft.console import Notify, silent
from gptft.documents.scan import Progress
from gptft.errors import ConfigError, GptftError, Interrupted
from gptft.files import JsonFields, write_json, write_output
from gptft.inputs import expand_user, why_unusable
from gptft.report.page_file import check_page_path
from gptft.runs.compare import RunComparison, compare_runs
from gptft.runs.read import as_mapping, read_facts
from gptft.runs.run_folder import hold, run_around
from gptft.runs.settings import PLACES, default_settings, settings_of
from gptft.terminal.words import count, short_value
from gptft.text.scripts import PageLanguage

RECORD, PAGE = "sweep.json", "comparison.html"
_OUTPUT_DIR = ("training", "output_dir")
# What training.auto_batch changes in a run's own config.
_BATCH = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")
_MOST_CHANGES = 3  # that are named of a run


@dataclass(frozen=True)
class SweptRun(JsonFields):
    """What became of one run.

    Attributes:
        name: of its folder.
        settings: that the sweep gives it.
        state: `waiting` before its turn; `done`, `failed` or `stopped` after it.
        error: why it failed.
    """

    name: str
    settings: Mapping[str, Any]
    state: str = "waiting"
    error: str | None = None


@dataclass(frozen=True)
class SweepResult(JsonFields):
    """What became of a sweep.

    Attributes:
        sweep_dir: its folder.
        runs: in the order they were trained in.
        comparison: of those that began; None where fewer than two did.
    """

    sweep_dir: Path
    runs: tuple[SweptRun, ...]
    comparison: RunComparison | None

    @property
    def failed(self) -> tuple[SweptRun, ...]:
        """Runs that didn't come to their end."""
        return tuple(run for run in self.runs if run.state != "done")


@dataclass(frozen=True)
class _Planned:
    """A run that is to be trained: what the sweep says of it, its config and its folder."""

    swept: SweepRun
    file: ConfigFile
    run_dir: Path


def train_sweep(
    config_file: Path,
    sweep_file: Path,
    *,
    sweep_dir: Path,
    overrides: Sequence[Override] = (),
    overwrite: bool = False,
    lang: PageLanguage | None = None,
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    notify: Notify = silent,
) -> SweepResult:
    """Train a model by each combination of a sweep's settings, one after another.

    A run that is done is skipped, one that was stopped, killed or failed is resumed, so that the
    same call continues a sweep. One that fails is recorded, and the others are trained.

    Args:
        config_file: a YAML config, or a text file or folder.
        sweep_file: see `read_sweep`.
        sweep_dir: where the runs' folders go, unless training.output_dir says.
        overrides: as `read_config` takes them; of settings that the sweep doesn't name.
        overwrite: replace earlier runs of the same names.
        lang: of the reports and of the page that compares them; None for that of the texts,
            English where it isn't Russian.
        progress: makes what is told (stage, bytes done, bytes in all) while texts are prepared.
        notify: told in a sentence what happens next.

    Raises:
        ConfigError: anything `check_config` finds in any run, before the first begins; a finished
            or stopped run of a name was made by other settings; the folder is in use.
        Interrupted: a signal ended it; what was trained is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "A sweep trains in one process, and there are several (WORLD_SIZE). Start one, or a "
            "run at a time."
        )
    sweep = read_sweep(sweep_file)
    base = read_config(config_file, overrides=overrides)
    named = base.config.training.get("output_dir") if base.config is not None else None
    sweep_dir = expand_user(named) if isinstance(named, str) and named else sweep_dir
    _check_folder(sweep_dir)
    planned = _plan(config_file, sweep, base, sweep_dir=sweep_dir, overrides=overrides)
    if not overwrite:
        _check_earlier(planned)
    with hold(sweep_dir):
        return _train_all(
            planned, sweep_dir=sweep_dir, overwrite=overwrite, lang=lang, progress=progress,
            notify=notify,
        )  # fmt: skip


def _check_folder(sweep_dir: Path) -> None:
    if unusable := why_unusable(sweep_dir):
        raise ConfigError(f"{sweep_dir} {unusable}. Name another training.output_dir (--out).")
    if around := run_around(sweep_dir):
        raise ConfigError(
            f"{sweep_dir} is within the run {around}, and would be lost with it. Name another "
            "training.output_dir (--out)."
        )
    if read_facts(sweep_dir) is not None:
        raise ConfigError(
            f"{sweep_dir} is a run, and the runs of a sweep are folders in a folder of their own. "
            "Name another training.output_dir (--out)."
        )
    if sweep_dir.is_dir():
        check_page_path(sweep_dir / PAGE)


def _plan(
    config_file: Path,
    sweep: Sequence[SweepRun],
    base: ConfigFile,
    *,
    sweep_dir: Path,
    overrides: Sequence[Override],
) -> list[_Planned]:
    """The config of each run, checked.

    Raises:
        ConfigError: every problem found in any of them.
    """
    problems = [problem for run in sweep for problem in _conflicts(run, base)]
    planned = []
    for run in sweep if not problems else ():
        run_dir = sweep_dir / run.name
        to = Given(_OUTPUT_DIR, str(run_dir), base.source.name)
        try:
            file = read_config(config_file, overrides=[*overrides, *run.given, to])
            check_file(file)
        except GptftError as error:
            problems += error.problems
        else:
            planned.append(_Planned(run, file, run_dir))
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return planned


def _conflicts(run: SweepRun, base: ConfigFile) -> Iterator[str]:
    """Settings that a run sets twice: by the sweep and a flag, or by two names in it."""
    elsewhere = dict(base.source.overridden)
    for given in run.given:
        for keys, place in elsewhere.items():
            if keys[: len(given.keys)] == given.keys[: len(keys)]:
                name = ".".join(given.keys)
                yield f"{given.place}  {name} is set by {place}, too. Leave one of them out."
        elsewhere[given.keys] = given.place


def _check_earlier(planned: Sequence[_Planned]) -> None:
    """Refuse to continue a sweep whose runs were made by other settings.

    Raises:
        ConfigError: each run that was, and by which.
    """
    problems = []
    for one in planned:
        facts = read_facts(one.run_dir)
        if facts is None or not as_mapping(facts.get("config")):
            continue
        now = _settings({"config": one.file.checked().resolved()})
        then = _settings(facts)
        ignored = {*PLACES, *(_BATCH if now.get("training.auto_batch") else ())}
        changed = [
            f"{name} was {_shown(then.get(name))} and is {_shown(now.get(name))} now"
            for name in sorted({*now, *then} - ignored)
            if now.get(name) != then.get(name)
        ]
        if changed:
            more = f", and {len(changed) - _MOST_CHANGES:,} more" * (len(changed) > _MOST_CHANGES)
            problems.append(
                f"{one.run_dir} was trained by other settings: {', '.join(changed[:_MOST_CHANGES])}"
                f"{more}. Put them back, name another folder (--out), or replace it with "
                "--overwrite."
            )
    if problems:
        raise ConfigError(*problems)


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {**default_settings(), **settings_of(facts)}
    return {name: value for name, value in known.items() if value not in (None, [], {})}


def _shown(value: Any) -> str:
    return "not set" if value is None else short_value(value)


def _train_all(
    planned: Sequence[_Planned],
    *,
    sweep_dir: Path,
    overwrite: bool,
    lang: PageLanguage | None,
    progress: Callable[[], AbstractContextManager[Progress | None]],
    notify: Notify,
) -> SweepResult:
    swept = [SweptRun(one.swept.name, one.swept.settings) for one in planned]
    _record(sweep_dir, swept)
    for place, one in enumerate(planned):
        notify(f"Run {place + 1:,} of {len(planned):,}: {one.swept.name}")
        state, error = "done", None
        try:
            train(
                one.file, run_dir=one.run_dir, overwrite=overwrite,
                resume=not overwrite and _is_run(one.run_dir), lang=lang, progress=progress,
                notify=notify,
            )  # fmt: skip
        except Interrupted:
            swept[place] = replace(swept[place], state="stopped")
            with suppress(OSError):  # on a full disk: what ended the sweep is told all the same
                _record(sweep_dir, swept)
            raise
        except Exception as problem:  # of a library, too: the others are trained all the same
            state, error = "failed", _in_words(problem)
            notify(f"{one.swept.name} failed: {error}")
        swept[place] = replace(swept[place], state=state, error=error)
        _record(sweep_dir, swept)
        gc.collect()  # a model and its optimizer are in cycles of references
    begun = [one.run_dir for one in planned if _is_run(one.run_dir)]
    comparison = compare_runs(begun) if len(begun) > 1 else None
    if comparison is not None:
        from gptft.report.run_comparison import comparison_language, run_comparison_html

        lang = lang or comparison_language(comparison)
        write_output(sweep_dir / PAGE, run_comparison_html(comparison, lang))
    num_failed = sum(run.state != "done" for run in swept)
    notify(
        f"{count(len(swept), 'run')}, {num_failed:,} failed. They are in {sweep_dir}"
        f"{f'; side by side: {sweep_dir / PAGE}' if comparison is not None else ''}."
    )
    return SweepResult(sweep_dir, tuple(swept), comparison)


def _is_run(run_dir: Path) -> bool:
    return (run_dir / "run.json").is_file()


def _in_words(problem: Exception) -> str:
    if isinstance(problem, GptftError):
        return " ".join(problem.problems)
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"


def _record(sweep_dir: Path, swept: Sequence[SweptRun]) -> None:
    """Write down how far the sweep is.

    Raises:
        OSError: the disk is full, or fails.
    """
    write_json(sweep_dir / RECORD, {"runs": swept})
