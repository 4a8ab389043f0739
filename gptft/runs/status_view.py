"""A listing of runs -> what a person sees of it: a table, and why runs aren't done."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from gptft.runs.status import Listing, RunStatus
from gptft.terminal.draw import Cell, Drawn, Table
from gptft.terminal.text import escaped

_NOTHING = "-"
_LEAST = 12  # cells of a name; with less, the next column of these is left out
_LEFT_OUT = ("saved at", "seed", "best at", "data", "base", "held out")
COLOURS = {  # of each state
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
    "damaged": "bold red",
}


def listing_view(listing: Listing, folder: Path) -> Drawn:
    """Columns that fold long names, below them why runs ended early or not; off a terminal tabs.

    A column without a value in any run is left out, and on a narrow terminal the least important
    ones. Off a terminal the complete path comes first and the reason last.

    Args:
        listing: at least one run.
        folder: that was listed; on a terminal names are given below it.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if not console.is_terminal:
            yield Table([_plain_row(run) for run in listing.runs], "l" * 13)
            return
        figures = [_figures(run) for run in listing.runs]
        names = [name for name in figures[0] if any(row[name] != _NOTHING for row in figures)]
        waiting = [name for name in _LEFT_OUT if name in names]
        table = _table(listing, folder, figures, names)
        while waiting and not table.fits(width, least=_LEAST):
            names.remove(waiting.pop(0))
            table = _table(listing, folder, figures, names)
        yield table
        for run in listing.runs:
            if run.reason:
                yield Text(f"{_name(run.path, folder)}: {run.state}, {escaped(run.reason)}")

    return Drawn(draw)


def _table(
    listing: Listing, folder: Path, figures: list[dict[str, str]], names: list[str]
) -> Table:
    rows: list[list[Cell]] = []
    for run, values in zip(listing.runs, figures, strict=True):
        state = Text(run.state, COLOURS[run.state])
        rows.append([_name(run.path, folder), state, *(values[name] for name in names)])
    align = "ln" + "".join("l" if name in ("base", "data") else "r" for name in names)
    return Table(rows, align, heads=[escaped(f"{folder}/"), "state", *names])


def _plain_row(run: RunStatus) -> tuple[str, ...]:
    named = [f"{name} {value}" for name, value in _figures(run).items() if name != "age"]
    age = age_of(run)
    return escaped(run.path), run.state, *named, age, escaped(run.reason or "")


def _figures(run: RunStatus) -> dict[str, str]:
    """What stands in the columns behind a run's name and state; `-` is what isn't known."""
    step = _shown(run.step)
    if run.num_steps is not None and run.state != "done":
        step += f"/{run.num_steps:,}"
    return {
        "base": escaped(run.base or _NOTHING),
        "data": escaped(run.data or _NOTHING),
        "step": step,
        "loss": _NOTHING if run.loss is None else f"{run.loss:.3f}",
        "held out": _NOTHING if run.held_out_loss is None else f"{run.held_out_loss:.3f}",
        "best at": _shown(run.best_step),
        "seed": _NOTHING if run.seed is None else str(run.seed),
        "saved at": _shown(run.checkpoint),
        "age": age_of(run),
    }


def _shown(number: int | None) -> str:
    return _NOTHING if number is None else f"{number:,}"


def age_of(run: RunStatus) -> str:
    """How long ago there was a sign of a run."""
    return _age(time.time() - run.seen)


def _age(seconds: float) -> str:
    """A time span in its largest whole unit.

    >>> _age(59), _age(3 * 60), _age(2.9 * 3600), _age(5 * 86_400), _age(-1)
    ('59 s', '3 min', '2 h', '5 d', '0 s')
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"


def _name(path: Path, folder: Path) -> str:
    return escaped(path if path == folder else path.relative_to(folder))
