"""Runs -> what is wrong with their files: by names and sizes, or byte by byte."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gptft.errors import ConfigError, RunError
from gptft.files import JsonFields, read_json
from gptft.inputs import open_input
from gptft.runs.checkpoints import all_damage, list_checkpoints
from gptft.runs.find import cannot_read, find_runs
from gptft.runs.model_folder import ADAPTER, model_folder, trains_adapter
from gptft.runs.read import read_facts

_MAX_HEADER = 100_000_000  # bytes, the safetensors format's own limit


@dataclass(frozen=True)
class Verified(JsonFields):
    """A run or a checkpoint that was verified.

    Attributes:
        path: of a checkpoint; or of a run, of which run.json and model/ were checked.
        problems: a sentence for each damaged file; none where all are intact.
        step: of a checkpoint.
    """

    path: Path
    problems: tuple[str, ...]
    step: int | None = None

    json_names = ("path", "step", "problems")


def verify_runs(folders: Sequence[Path]) -> Iterator[Verified]:
    """Check run.json and model/ of every run, then read every byte of every checkpoint.

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
    facts, problem = facts_problem(run_dir)
    if problem is None and facts["state"] == "done":
        problem = model_problem(run_dir, facts)
    yield Verified(run_dir, (problem,) if problem else ())
    folder = run_dir / "checkpoints"
    try:
        checkpoints = list_checkpoints(folder)
    except OSError as error:
        yield Verified(folder, (cannot_read(error),))
        return
    for checkpoint in checkpoints:
        try:
            problems = tuple(all_damage(checkpoint.path))
        except OSError as error:
            problems = (cannot_read(error),)
        if checkpoint.path.is_dir():  # else it has been rotated away meanwhile
            yield Verified(checkpoint.path, problems, checkpoint.step)


def facts_problem(run_dir: Path) -> tuple[Mapping[str, Any], str | None]:
    """What run.json says, and what is wrong with it."""
    try:
        facts = read_facts(run_dir)
    except RunError as error:
        reason = str(error).removeprefix(f"{run_dir / 'run.json'} ").rstrip(".")
        return {}, f"run.json can't be read: it {reason}"
    if facts is None:
        return {}, "run.json is not a file"
    if facts.get("state") not in ("running", "done", "stopped", "failed"):
        return facts, "run.json says nothing of the run's state"
    return facts, None


def model_problem(run_dir: Path, facts: Mapping[str, Any]) -> str | None:
    """What is missing from the model of a run that is done, as far as names and sizes tell.

    Args:
        run_dir: the run's folder.
        facts: what its run.json says.
    """
    names = [model_folder(facts), *([ADAPTER] if trains_adapter(facts) else [])]
    problems = (_folder_problem(run_dir, name) for name in dict.fromkeys(names))
    return next((problem for problem in problems if problem), None)


def _folder_problem(run_dir: Path, folder: str) -> str | None:
    """What is missing from the folder of a model or an adapter."""
    model, prefix = run_dir / folder, "adapter_" if folder == ADAPTER else ""
    if not model.is_dir():
        return f"{folder}/ is missing"
    configs = (f"{prefix}config.json", "adapter_config.json")
    if not any((model / name).is_file() for name in configs):
        return f"{folder}/{prefix}config.json is missing"
    weights = {path.name for path in model.glob("*.safetensors")} | _shards(model)
    if not weights:
        return f"{folder}/{prefix}model.safetensors is missing"
    problems = ((name, _weights_problem(model / name)) for name in sorted(weights))
    return next((f"{folder}/{name} {problem}" for name, problem in problems if problem), None)


def _shards(model: Path) -> set[str]:
    """The files that an index of weights names."""
    try:
        index = read_json(model / "model.safetensors.index.json")
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
        with open_input(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _MAX_HEADER else {}
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        size, needed = path.stat().st_size, 8 + length + max(ends)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return cannot_read(error)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return "is no safetensors file"
    return None if size == needed else f"has {size:,} bytes, not {needed:,}"
