"""Updates of a run -> a drawing that changes on a terminal, a line a log step off one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live

from gptft.runs.follow import Update
from gptft.runs.read import as_float, as_int
from gptft.runs.show_view import progress_view
from gptft.terminal.draw import Drawn, plain_lines

# By the name in metrics.jsonl, how a line names it and how it is written.
_SHOWN = (
    ("loss", "loss", "{:.3f}"),
    ("eval_loss", "held out", "{:.3f}"),
    ("learning_rate", "learning rate", "{:.3g}"),
    ("tokens_per_second", "tokens a second", "{:,.0f}"),
)


def show_updates(updates: Iterable[Update], console: Console) -> None:
    """Show a run until it ends, and then how it ended."""
    if not console.is_terminal:
        for update in updates:
            lines = plain_lines(_lines(update))
            console.print(Drawn(lambda *_, lines=lines: [lines]), end="")
        return
    with Live(
        console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
    ) as screen:
        for update in updates:
            screen.update(progress_view(update.shown), refresh=True)


def _lines(update: Update) -> Iterator[str]:
    if update.back_to is not None:
        yield f"resumed from step {update.back_to}"
    of = update.shown.status.num_steps
    for row in update.rows:
        yield _line(row, of=of)


def _line(row: Mapping[str, Any], *, of: int | None) -> str:
    r"""A row of the log, its values behind tabs.

    >>> _line({"step": 2, "loss": 3.5, "learning_rate": 1e-3}, of=8)
    'step 2/8\tloss 3.500\tlearning rate 0.001'
    """
    step = as_int(row.get("step"))
    words = [f"step {'-' if step is None else step}{'' if of is None else f'/{of}'}"]
    for name, called, form in _SHOWN:
        if name in row:
            value = as_float(row[name])
            words.append(f"{called} {'nan' if value is None else form.format(value)}")
    return "\t".join(words)
