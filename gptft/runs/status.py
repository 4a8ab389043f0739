"""The run folders below a folder: which there are, and how each of them stands.

In: a folder. Out: a `RunStatus` for each run, told from names, sizes, short files and a lock; or,
where asked for, every byte of every checkpoint held against its manifest. Changes nothing there.
Must not import torch or transformers.
"""

import json
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from gptft.errors import ConfigError, RunError
from gptft.runs.checkpoints import (
    MANIFEST,
    Checkpoint,
    byte_problem,
    find_damage,
    list_checkpoints,
    size_problem,
)
from gptft.runs.run_folder import EARLIER, is_held, read_facts

State = Literal["running", "done", "stopped", "failed", "damaged"]

_DEPTH = 3  # folders below the one that is listed
_PARTS = ("checkpoints", "model", EARLIER)  # of a run; no runs of their own are in them
_TAIL = 65_536  # bytes: a log step is some hundreds
_MAX_HEADER = 100_000_000  # bytes, the safetensors format's own limit
_MAX_STEPS = re.compile(r'"max_steps":\s*(\d+)')


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Attributes:
        path: its folder.
        state: `running` only while a process is at work; `stopped` and `failed` can be resumed.
        reason: why it isn't done, where that is known.
        step: optimizer updates so far.
        num_steps: those of the whole run, where they are known.
        loss: the last training loss logged, in nats a token.
        checkpoint: the step of the newest checkpoint.
        seen: when run.json or metrics.jsonl was last written, in seconds since 1970.
    """

    path: Path
    state: State
    reason: str | None
    step: int | None
    num_steps: int | None
    loss: float | None
    checkpoint: int | None
    seen: float

    def to_dict(self) -> dict[str, Any]:
        """All of it by name; a loss that isn't finite is null, as JSON has no word for it."""
        seen = datetime.fromtimestamp(self.seen, UTC).isoformat(timespec="seconds")
        loss = self.loss if self.loss is not None and math.isfinite(self.loss) else None
        return {**vars(self), "path": str(self.path), "loss": loss, "seen": seen}


@dataclass(frozen=True)
class Verified:
    """What a close look found.

    Attributes:
        path: a checkpoint; or a run, of which run.json and model/ were looked at.
        problems: a sentence for each damaged file; none where all is whole.
        step: of a checkpoint.
    """

    path: Path
    problems: tuple[str, ...]
    step: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        return {"path": str(self.path), "step": self.step, "problems": list(self.problems)}


@dataclass(frozen=True)
class Listing:
    """What is below a folder.

    Attributes:
        runs: the one with the latest sign of life first.
        unreadable: folders that couldn't be looked into, each with the reason.
    """

    runs: tuple[RunStatus, ...]
    unreadable: tuple[tuple[Path, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        unreadable = [{"path": str(path), "reason": reason} for path, reason in self.unreadable]
        return {"runs": [run.to_dict() for run in self.runs], "unreadable": unreadable}


def list_runs(folder: Path) -> Listing:
    """The runs in a folder and up to three folders deep below it; it may be a run itself.

    Raises:
        ConfigError: there is no such folder, or it can't be read.
    """
    paths, unreadable = find_runs(folder)
    found: list[RunStatus] = []
    for path in paths:
        try:
            found.append(status_of(path))
        except OSError as error:
            unreadable.append((path, _said(error)))
    return Listing(tuple(sorted(found, key=lambda run: -run.seen)), tuple(unreadable))


def find_runs(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The folders with a run.json, and those that can't be read, each with the reason.

    Links are followed after all that is there without them, so that a run has its own name.

    Raises:
        ConfigError: as for `list_runs`.
    """
    found: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = deque([(folder, 0)]), deque[tuple[Path, int]]()
    while waiting or links:
        path, depth = (waiting or links).popleft()
        try:
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if depth == 0:
                raise _no_folder(folder, error) from None
            if not isinstance(error, FileNotFoundError):  # else it has just been removed
                unreadable.append((path, _said(error)))
            continue
        is_run = any(entry.name == "run.json" for entry in entries)
        if is_run:
            found.append(path)
        for entry in entries if depth < _DEPTH else ():
            if entry.name.startswith(".") or (is_run and entry.name in _PARTS):
                continue
            if _is_folder(entry):
                queue = links if entry.is_symlink() else waiting
                queue.append((path / entry.name, depth + 1))
    return found, unreadable


def status_of(run_dir: Path) -> RunStatus:
    """How a run stands; quick however large its checkpoints are.

    Raises:
        OSError: its folder can't be read.
    """
    held = is_held(run_dir)  # first: a run says "done" before it lets go
    seen = _last_sign(run_dir)
    facts, problem = _facts(run_dir)
    checkpoints = list_checkpoints(run_dir / "checkpoints")
    newest = checkpoints[0] if checkpoints else None
    state, reason = _state(facts, held=held)
    if state != "running":
        problem = problem or _model_problem(run_dir, state) or _checkpoint_problem(newest)
        state, reason = ("damaged", problem) if problem else (state, reason)
    rows = _last_rows(run_dir / "metrics.jsonl")
    step = _step(facts, rows, newest)
    return RunStatus(
        path=run_dir,
        state=state,
        reason=reason,
        step=step,
        num_steps=_num_steps(facts, newest, step=step),
        loss=_loss(facts, rows),
        checkpoint=newest.step if newest else None,
        seen=seen,
    )


def verify_runs(folders: Sequence[Path]) -> Iterator[Verified]:
    """Look at run.json and model/ of every run, then read every byte of every checkpoint.

    Args:
        folders: runs, or folders of runs.

    Raises:
        ConfigError: at once, with every folder that holds no run or isn't there.
    """
    runs: list[Path] = []
    closed: list[Verified] = []
    problems: list[str] = []
    for folder in folders:
        try:
            found, unreadable = find_runs(folder)
        except ConfigError as error:
            problems += error.problems
            continue
        runs += found
        closed += [Verified(path, (reason,)) for path, reason in unreadable]
        if not found and not unreadable:
            problems.append(f"{folder} is no run: no run.json is in it or below it.")
    if problems:
        raise ConfigError(*problems)
    return chain(closed, *map(_verify, dict.fromkeys(runs)))


def _verify(run_dir: Path) -> Iterator[Verified]:
    facts, problem = _facts(run_dir)
    state, _ = _state(facts, held=False)
    problem = problem or _model_problem(run_dir, state)
    yield Verified(run_dir, (problem,) if problem else ())
    folder = run_dir / "checkpoints"
    try:
        checkpoints = list_checkpoints(folder)
    except OSError as error:
        yield Verified(folder, (_said(error),))
        return
    for checkpoint in checkpoints:
        problems = _all_damage(checkpoint.path)
        if checkpoint.path.is_dir():  # else it has been rotated away meanwhile
            yield Verified(checkpoint.path, problems, checkpoint.step)


def _no_folder(folder: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(
            f"{folder}: no such folder. `gptft train` makes runs/; name another folder of runs."
        )
    if isinstance(error, NotADirectoryError):
        return ConfigError(f"{folder} is a file. Name a run, or a folder of runs.")
    return ConfigError(f"{folder} can't be read: {error.strerror}.")


def _said(error: OSError) -> str:
    return f"can't be read ({error.strerror})"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _last_sign(run_dir: Path) -> float:
    times = []
    for path in (run_dir / "metrics.jsonl", run_dir / "run.json"):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times) if times else run_dir.stat().st_mtime


def _facts(run_dir: Path) -> tuple[Mapping[str, Any], str | None]:
    """What run.json says, and what is wrong with it."""
    try:
        facts = read_facts(run_dir)
    except RunError as error:
        return {}, str(error).removeprefix(f"{run_dir}{os.sep}").rstrip(".")
    except RecursionError:
        return {}, "run.json can't be read: it is nested too deeply"
    if facts is None:
        return {}, "run.json is not a file"
    if facts.get("state") not in ("running", "done", "stopped", "failed"):
        return facts, "run.json says nothing of the run's state"
    return facts, None


def _state(facts: Mapping[str, Any], *, held: bool) -> tuple[State, str | None]:
    match facts.get("state"):
        case "running" if held:
            return "running", None
        case "running":
            return "stopped", "no process is at work on it: killed, or the machine went down"
        case "failed":
            error = facts.get("error")
            return "failed", " ".join(error.split()) if isinstance(error, str) else None
        case "done":
            return "done", None
    return "stopped", None


def _model_problem(run_dir: Path, state: State) -> str | None:
    """What is missing from the model of a run that is done, as far as names and sizes tell."""
    if state != "done":
        return None
    model = run_dir / "model"
    if not model.is_dir():
        return "model/ is missing"
    if not any((model / name).is_file() for name in ("config.json", "adapter_config.json")):
        return "model/config.json is missing"
    weights = {path.name for path in model.glob("*.safetensors")} | _shards(model)
    if not weights:
        return "model/model.safetensors is missing"
    for name in sorted(weights):
        problem = _weights_problem(model / name)
        if problem:
            return f"model/{name} {problem}"
    return None


def _shards(model: Path) -> set[str]:
    """The files that an index of weights names."""
    try:
        index = json.loads((model / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return {str(name) for name in index["weight_map"].values()}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"model.safetensors.index.json"}  # which is no file of weights, and is named so


def _weights_problem(path: Path) -> str | None:
    """Whether a safetensors file is as long as its header says.

    Source: the format, 8 bytes of header length, the header, the tensors
    (https://github.com/huggingface/safetensors, "Format").
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _MAX_HEADER else {}
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        size, needed = path.stat().st_size, 8 + length + max(ends)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return _said(error)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "is no safetensors file"
    return None if size == needed else f"has {size:,} bytes, not {needed:,}"


def _checkpoint_problem(checkpoint: Checkpoint | None) -> str | None:
    """What is wrong with a checkpoint, as far as names and sizes tell."""
    if checkpoint is None:
        return None
    problem = next(_file_problems(checkpoint.path, size_problem), None)
    return f"{checkpoint.path.name}: {problem}" if problem else None


def _all_damage(path: Path) -> tuple[str, ...]:
    """What is wrong with a checkpoint, a sentence for each damaged file."""
    try:
        first = find_damage(path)
    except OSError as error:
        return (_said(error),)
    if first is None:
        return ()
    others = [problem for problem in _file_problems(path, byte_problem) if problem != first]
    return (first, *others)


def _file_problems(
    path: Path, wrong: Callable[[Path, Mapping[str, Any]], str | None]
) -> Iterator[str]:
    """What `wrong` finds in the files that a manifest names."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        step, entries = manifest["step"], dict(manifest["files"])
    except FileNotFoundError:
        yield f"it has no {MANIFEST}"
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield f"{MANIFEST} can't be read"
        return
    if path.name != f"checkpoint-{step}":
        yield f"{MANIFEST} is of step {step}"
    for name, entry in entries.items():
        try:
            problem = wrong(path / name, entry)
        except (KeyError, TypeError):
            problem = f"isn't described in {MANIFEST}"
        if problem:
            yield f"{name} {problem}"


def _last_rows(path: Path) -> list[Mapping[str, Any]]:
    """The last rows of a log, the latest first; a torn line is none."""
    rows: list[Mapping[str, Any]] = []
    for line in reversed(_tail(path).splitlines()):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            return file.read(_TAIL).decode(errors="replace")
    except OSError:
        return ""


def _step(
    facts: Mapping[str, Any], rows: list[Mapping[str, Any]], newest: Checkpoint | None
) -> int | None:
    """The optimizer updates so far: as the run said at its end, else as it last logged or saved."""
    if facts.get("state") == "done":
        done = _whole(_mapping(facts.get("result")).get("steps"))
        if done is not None:
            return done
    ended = _whole(facts.get("step")) if facts.get("state") in ("stopped", "failed") else None
    logged = next((step for row in rows if (step := _whole(row.get("step"))) is not None), None)
    known = [step for step in (ended, logged) if step is not None]
    return max(known) if known else newest.step if newest else None


def _num_steps(
    facts: Mapping[str, Any], newest: Checkpoint | None, *, step: int | None
) -> int | None:
    """The steps of the whole run; None where what is known is of before it was extended."""
    if facts.get("state") == "done":
        return _whole(_mapping(facts.get("result")).get("steps"))
    training = _mapping(_mapping(facts.get("config")).get("training"))
    planned = _whole(training.get("max_steps"))
    if not planned and newest is not None:  # 0 and -1 say: as many as the epochs have
        said = _MAX_STEPS.findall(_tail(newest.path / "trainer_state.json"))
        planned = int(said[-1]) if said else None
    return planned if planned and planned >= (step or 0) else None


def _loss(facts: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> float | None:
    for row in rows:
        if "loss" in row:  # null is how a log has what isn't finite
            return math.nan if row["loss"] is None else _number(row["loss"])
    return _number(_mapping(_mapping(facts.get("result")).get("train")).get("loss_after"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool | str | None) else float(value)
    except (TypeError, OverflowError):
        return None
