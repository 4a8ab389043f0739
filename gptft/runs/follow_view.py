"""Updates of a run -> a drawing that changes on a terminal, a line a log step off one."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType

from gptft.runs.follow import Update
from gptft.runs.progress import Pace, RunProgress
from gptft.runs.progress_view import figure_words, flowing, sample_lines, where_lines
from gptft.runs.read import as_float, as_int
from gptft.runs.show import ShownRun
from gptft.runs.show_view import progress_parts
from gptft.terminal.draw import Drawn, plain_lines
from gptft.terminal.live import LiveLines

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
    pace: Pace | None = None
    with LiveLines("", console, leaves=False) as screen:
        for update in updates:
            progress, now = progress_of(update.shown), time.monotonic()
            if pace is None or update.back_to is not None:
                pace = Pace(step=progress.step)
            pace.see(progress.step, now)
            seconds = pace.seconds_left(progress.num_steps, now)
            screen.show(_drawing(update, progress, seconds))


def progress_of(shown: ShownRun) -> RunProgress:
    """How far a run is, by its log."""
    samples = shown.samples
    progress = RunProgress(num_steps=shown.status.num_steps)
    progress.take_all(shown.run.metrics)
    progress.step = shown.status.step or 0
    if samples and isinstance(last := samples[-1], Mapping):
        progress.sample = (last["step"], last["prompt"], last["continuation"])
    return progress


def _drawing(update: Update, progress: RunProgress, seconds: float | None) -> Drawn:
    """The run's state, where it is with its figures, its curves, its last sample."""

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        state, *curves = progress_parts(update.shown)
        yield state
        if update.shown.status.state == "running":
            yield from where_lines(progress, width=width, seconds=seconds)
        yield from flowing(figure_words(progress), width)
        for part in curves:
            yield ""
            yield part
        yield from sample_lines(progress, width=width)

    return Drawn(draw)


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
