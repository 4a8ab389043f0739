"""`gptft runs`: the runs below a folder and how they stand; `verify` reads their checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gptft.cli.options import AsJson

if TYPE_CHECKING:
    from gptft.runs.status import Listing, RunStatus
    from gptft.runs.verify import Verified

_NARROW = 72  # columns: below, the newest checkpoint isn't shown
_COLOURS = {
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
    "damaged": "bold red",
}


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
def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of runs, or one run.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs below DIR, newest first; `gptft runs DIR` does the same.

    A run is running, done, stopped, failed, or damaged as far as its files' sizes tell.
    """
    from gptft.console import notice, result, result_json, stdout
    from gptft.runs.status import list_runs

    listing = list_runs(folder)
    if as_json:
        result_json(listing)
        return
    for path, reason in listing.unreadable:
        notice(f"{_visible(path)} {reason}")
    if not listing.runs:
        result(f"No runs in {_visible(folder)}. `gptft train` makes one.")
    elif stdout().is_terminal:
        _print_table(listing, folder)
    else:
        _print_lines(listing.runs)


@app.command()
def verify(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Runs, or folders of runs.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte of every checkpoint of RUN; exit 1 if any file isn't what was written."""
    from gptft.console import notice, result, result_json
    from gptft.runs.verify import verify_runs

    looked_at: list[Verified] = []
    for verified in verify_runs(runs):
        looked_at.append(verified)
        if not as_json and (verified.problems or verified.step is not None):
            for problem in verified.problems or ("whole",):
                result(f"{_visible(verified.path)}: {_visible(problem)}")
    num_damaged = sum(bool(verified.problems) for verified in looked_at)
    if as_json:
        result_json({"damaged": num_damaged, "verified": looked_at})
    else:
        count = sum(verified.step is not None for verified in looked_at)
        verdict = "--resume passes over a damaged one" if num_damaged else "nothing is damaged"
        notice(f"{count} {'checkpoint' if count == 1 else 'checkpoints'} read: {verdict}.")
    if num_damaged:
        raise typer.Exit(1)


def _print_table(listing: "Listing", folder: Path) -> None:
    """A table that folds long names, and below it why runs aren't done."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from gptft.console import result, stdout

    is_wide = stdout().width >= _NARROW
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text(_visible(f"{folder}/")), overflow="fold", min_width=8)
    table.add_column("state", no_wrap=True)
    for column in ("step", "loss", *(["saved at"] if is_wide else []), "age"):
        table.add_column(column, no_wrap=True, justify="right")
    for run in listing.runs:
        step, loss, saved, age = _figures(run)
        state = Text(run.state, style=_COLOURS[run.state])
        figures = (step, loss, saved, age) if is_wide else (step, loss, age)
        table.add_row(Text(_name(run.path, folder)), state, *figures)
    result(table)
    for run in listing.runs:
        if run.reason:
            result(f"{_name(run.path, folder)}: {run.state}, {_visible(run.reason)}")


def _print_lines(runs: Sequence["RunStatus"]) -> None:
    """A line a run, in columns, with its whole path first and the reason last."""
    from rich.cells import cell_len

    from gptft.console import result

    rows = []
    for run in runs:
        step, loss, saved, age = _figures(run)
        figures = (f"step {step}", f"loss {loss}", f"saved at {saved}", age)
        rows.append((_visible(run.path), run.state, *figures, _visible(run.reason or "")))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell + " " * (w - cell_len(cell)) for cell, w in zip(row, widths, strict=True)]
        result("  ".join(cells).rstrip())


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
    return _visible(path if path == folder else path.relative_to(folder))


def _visible(name: Path | str) -> str:
    r"""A name in which nothing acts on the terminal or hides.

    >>> print(_visible("мой\x1b[2J \u202e"))
    мой\x1b[2J \u202e
    """
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in str(name)
    )
