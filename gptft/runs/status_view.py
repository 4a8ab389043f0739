"""A listing of runs -> what a person sees of it: a table, and why runs aren't done."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from gptft.runs.status import Listing, RunStatus
from gptft.terminal.draw import Cell, Drawn, Table
from gptft.terminal.text import escaped

_NARROW = 72  # columns: below, the newest checkpoint isn't shown
_COLOURS = {
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
    "damaged": "bold red",
}


def listing_view(listing: Listing, folder: Path) -> Drawn:
    """Columns that fold long names, and below them why runs aren't done; off a terminal tabs.

    Off a terminal the complete path comes first and the reason last.

    Args:
        listing: at least one run.
        folder: that was listed; on a terminal names are given below it.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if not console.is_terminal:
            yield Table([_plain_row(run) for run in listing.runs], "lllllll")
            return
        is_wide = width >= _NARROW
        heads = [escaped(f"{folder}/"), "state", "step", "loss", *["saved at"] * is_wide, "age"]
        rows: list[list[Cell]] = []
        for run in listing.runs:
            step, loss, saved, age = _figures(run)
            state = Text(run.state, _COLOURS[run.state])
            rows.append([_name(run.path, folder), state, step, loss, *[saved] * is_wide, age])
        yield Table(rows, "ln" + "r" * (len(heads) - 2), heads=heads)
        for run in listing.runs:
            if run.reason:
                yield Text(f"{_name(run.path, folder)}: {run.state}, {escaped(run.reason)}")

    return Drawn(draw)


def _plain_row(run: RunStatus) -> tuple[str, ...]:
    step, loss, saved, age = _figures(run)
    figures = (f"step {step}", f"loss {loss}", f"saved at {saved}", age)
    return escaped(run.path), run.state, *figures, escaped(run.reason or "")


def _figures(run: RunStatus) -> tuple[str, str, str, str]:
    """Step, loss, newest checkpoint and age; `-` is what isn't known."""
    step = "-" if run.step is None else f"{run.step:,}"
    if run.num_steps is not None and run.state != "done":
        step += f"/{run.num_steps:,}"
    loss = "-" if run.loss is None else f"{run.loss:.3f}"
    saved = "-" if run.checkpoint is None else f"{run.checkpoint:,}"
    return step, loss, saved, _age(time.time() - run.seen)


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
