"""A run that another process is at work on -> what is new of it, again and again, until it ends."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.runs.run_folder import is_held
from gptft.runs.show import ShownRun, show_run

_FILES = ("run.json", "metrics.jsonl", "samples.jsonl")
_INTERVAL = 1.0  # seconds between two looks
_REST = 10  # times as long as a look took: a long log takes a while to read

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Update:
    """What is new of a run.

    Attributes:
        shown: all of it as it is now.
        rows: of metrics.jsonl that weren't there before.
        back_to: the last step that is still in the log, where it has lost rows: the run was
            resumed from an earlier checkpoint, or began anew (0).
    """

    shown: ShownRun
    rows: tuple[Row, ...]
    back_to: int | None = None


def follow_run(run_dir: Path, *, wait: Callable[[float], object] = time.sleep) -> Iterator[Update]:
    """Look at a run each second until no process is at work on it; nothing is opened for writing.

    Args:
        run_dir: its folder; one that a process holds may still be without a run.json.
        wait: sleeps so many seconds.

    Yields:
        an update at once, one whenever something has changed, and one at the end.

    Raises:
        ConfigError: there is no run in that folder, or it can't be read.
    """
    known: tuple[Row, ...] = ()
    seen: Any = None
    while True:
        started = time.monotonic()
        held = is_held(run_dir)
        if held and not (run_dir / "run.json").is_file():
            wait(_INTERVAL)  # it loads its model, or sets an earlier run aside
            continue
        if (now := (_signature(run_dir), held)) != seen:
            seen = now
            try:
                shown = show_run(run_dir)
            except Exception:
                if is_held(run_dir):  # its files were moved just now
                    wait(_INTERVAL)
                    continue
                raise
            rows = shown.run.metrics
            same = _num_same(known, rows)
            back_to = _last_step(rows[:same]) if same < len(known) else None
            known = rows
            yield Update(shown, rows[same:], back_to)
            if shown.status.state != "running":
                return
        wait(max(_INTERVAL, _REST * (time.monotonic() - started)))


def _signature(run_dir: Path) -> list[tuple[int, int, int]]:
    """What tells that one of a run's files has changed, or is another."""
    found = []
    for name in _FILES:
        with suppress(OSError):
            stat = (run_dir / name).stat()
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


def _num_same(old: Sequence[Row], new: Sequence[Row]) -> int:
    """How many rows two logs begin with alike."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(old), len(new)))


def _last_step(rows: Sequence[Row]) -> int:
    step = rows[-1].get("step") if rows else 0
    return step if isinstance(step, int) else 0
