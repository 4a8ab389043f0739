"""`gptft runs`: the runs below a folder and how they stand; `verify` reads their checkpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument
from typer.core import TyperGroup

from gptft.cli.options import AsJson
from gptft.console import notice, result, result_json
from gptft.terminal.draw import Drawn, Table
from gptft.terminal.text import escaped
from gptft.terminal.words import count

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gptft.runs.status import Listing, RunStatus
    from gptft.runs.verify import Verified
    from gptft.terminal.draw import Cell

_NARROW = 72  # columns: below, the newest checkpoint isn't shown
_COLOURS = {
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
    "damaged": "bold red",
}

Folder = Annotated[Path, Argument(metavar="DIR", help="A folder of runs, or one run.")]


class _ListByDefault(TyperGroup):
    """A group whose first word is a folder to list, unless it is a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = (*self.commands, *ctx.help_option_names)
        if not args or args[0] not in known:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ListByDefault,
    subcommand_metavar="[DIR] | verify RUN...",
    help="List the runs below a folder and how each stands, or verify their checkpoints.",
)


@app.command(name="list")
def list_(folder: Folder = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs below DIR, newest first; `gptft runs DIR` does the same.

    A run is running, done, stopped, failed, or damaged as far as its files' sizes tell.
    """
    from gptft import api

    listing = api.list_runs(folder)
    if as_json:
        result_json(listing)
        return
    for path, reason in listing.unreadable:
        notice(f"{escaped(path)} {reason}")
    if not listing.runs:
        result(f"No runs in {escaped(folder)}. `gptft train` makes one.")
    else:
        result(_table(listing, folder))


@app.command()
def verify(
    runs: Annotated[list[Path], Argument(metavar="RUN", help="Runs, or folders of runs.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte of every checkpoint of RUN; exit 1 if any file isn't what was written."""
    from gptft import api

    looked_at: list[Verified] = []
    for verified in api.verify_runs(runs):
        looked_at.append(verified)
        if not as_json and (verified.problems or verified.step is not None):
            for problem in verified.problems or ("intact",):
                result(f"{escaped(verified.path)}: {escaped(problem)}")
    num_damaged = sum(bool(verified.problems) for verified in looked_at)
    if as_json:
        result_json({"damaged": num_damaged, "verified": looked_at})
    else:
        num_read = sum(verified.step is not None for verified in looked_at)
        verdict = "--resume skips a damaged one" if num_damaged else "nothing is damaged"
        notice(f"{count(num_read, 'checkpoint')} read: {verdict}.")
    if num_damaged:
        raise typer.Exit(1)


def _table(listing: "Listing", folder: Path) -> Drawn:
    """Columns that fold long names, and below them why runs aren't done; off a terminal tabs.

    Off a terminal the complete path comes first and the reason last.
    """

    def draw(console: "Console", width: int) -> "Iterator[RenderableType]":
        from rich.text import Text

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
                reason = f"{_name(run.path, folder)}: {run.state}, {escaped(run.reason)}"
                yield Text(reason)

    return Drawn(draw)


def _plain_row(run: "RunStatus") -> tuple[str, ...]:
    step, loss, saved, age = _figures(run)
    figures = (f"step {step}", f"loss {loss}", f"saved at {saved}", age)
    return escaped(run.path), run.state, *figures, escaped(run.reason or "")


def _figures(run: "RunStatus") -> tuple[str, str, str, str]:
    """Step, loss, newest checkpoint and age; `-` is what isn't known."""
    import time

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
