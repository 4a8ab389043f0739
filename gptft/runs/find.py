"""A folder -> the runs in it and below it."""

import os
from collections import deque
from pathlib import Path

from gptft.errors import ConfigError
from gptft.inputs import near_names
from gptft.runs.model_folder import ADAPTER, MODEL
from gptft.runs.run_folder import EARLIER

_DEPTH = 3  # folders below the one that is searched
# Of a run; no runs are in them.
_INSIDE = ("checkpoints", "trackers", "profile", MODEL, ADAPTER, EARLIER)


def find_runs(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The folders with a run.json, and those that can't be read, each with the reason.

    Links are followed last, so that a run is found by its own name. Runs may lie three folders
    deep; `folder` may be a run itself.

    Raises:
        ConfigError: there is no such folder, or it can't be read.
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
                unreadable.append((path, cannot_read(error)))
            continue
        is_run = any(entry.name == "run.json" for entry in entries)
        if is_run:
            found.append(path)
        for entry in entries if depth < _DEPTH else ():
            if entry.name.startswith(".") or (is_run and entry.name in _INSIDE):
                continue
            if _is_folder(entry):
                queue = links if entry.is_symlink() else waiting
                queue.append((path / entry.name, depth + 1))
    return found, unreadable


def cannot_read(error: OSError) -> str:
    """Why something can't be read, in the words that follow its name."""
    return f"can't be read ({error.strerror})"


def _no_folder(folder: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        near = near_names(folder, within=("runs",))
        return ConfigError(
            f"{folder}: no such folder."
            f"{near or ' `gptft train` makes runs/; name another folder of runs.'}"
        )
    if isinstance(error, NotADirectoryError):
        return ConfigError(f"{folder} is a file. Name a run, or a folder of runs.")
    return ConfigError(f"{folder} can't be read: {error.strerror}.")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
