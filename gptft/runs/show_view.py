"""A run -> what a person sees of it: its state, figures, curves, settings and last samples."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType, RenderResult
from rich.text import Text

from gptft.runs.general import general_name
from gptft.runs.read import BeforeAfter, Point
from gptft.runs.show import ShownRun
from gptft.runs.status import RunStatus
from gptft.runs.status_view import COLOURS, age_of
from gptft.terminal.draw import Drawn, Table, columns_or_lines, plain_lines
from gptft.terminal.plot import PlotLine, plot
from gptft.terminal.text import escaped, harmless, quoted
from gptft.terminal.words import count

MAX_WIDTH = 100  # cells of a drawing
_MAX_SAMPLES = 5
_SHOWN_START = 60  # characters of a document
_MARKS = {"training loss": ("•", "blue"), "held-out loss": ("○", "yellow")}
_NOTHING = "-"


def run_view(shown: ShownRun) -> Drawn:
    """All of it; off a terminal tables with tabs, every point of the curves among them."""

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        parts = [
            _head(shown),
            _figures(shown),
            curves_view(shown.curves),
            _documents(shown),
            _settings(shown),
            _samples(shown),
        ]
        yield from _apart(console, [part for part in parts if part is not None])

    return Drawn(draw)


def progress_parts(shown: ShownRun) -> list[RenderableType]:
    """What changes while a run is at work: its state and, if there are any, its curves."""
    parts = (_head(shown), curves_view(shown.curves))
    return [part for part in parts if part is not None]


def curves_view(curves: dict[str, list[Point]]) -> RenderableType | None:
    """Losses by step as a drawing, off a terminal as a table; None where there is none."""
    if not any(curves.values()):
        return None

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if not console.is_terminal:
            yield points_table(curves)
            return
        lines = [PlotLine(_MARKS[n][0], n, curves[n], _MARKS[n][1]) for n in _MARKS if n in curves]
        drawn = plot(lines, width=min(width, MAX_WIDTH))
        yield Group(*drawn) if drawn else Text("No loss that was logged is a finite number.")

    return Drawn(draw)


def points_table(curves: dict[str, list[Point]]) -> Table:
    """Every step, and what each curve has there."""
    by_step = {name: dict(points) for name, points in curves.items()}
    steps = sorted({step for points in by_step.values() for step in points})
    rows = [
        (str(step), *(loss_text(points.get(step)) for points in by_step.values())) for step in steps
    ]
    align = "r" * (1 + len(curves))
    return Table(rows, align, title="curves", heads=("step", *map(escaped, curves)))


def loss_text(loss: float | None) -> str:
    """A loss as tables have it; `-` is what isn't known."""
    return _NOTHING if loss is None else f"{loss:.3f}"


def state_words(status: RunStatus) -> str:
    """Where a run is, in a line without its name and state.

    >>> state_words(RunStatus(None, "done", None, 3, 3, 2.5, 2.75, 2, 3, "pico", "a", 7, 0.0))
    'step 3, loss 2.500, held out 2.750, lowest at step 2, base pico, data a, seed 7, saved at 3'
    """
    step = None if status.step is None else f"step {status.step:,}"
    if step and status.num_steps is not None and status.state != "done":
        step += f" of {status.num_steps:,}"
    words = (
        step,
        None if status.loss is None else f"loss {status.loss:.3f}",
        None if status.held_out_loss is None else f"held out {status.held_out_loss:.3f}",
        None if status.best_step is None else f"lowest at step {status.best_step:,}",
        None if status.base is None else f"base {escaped(status.base)}",
        None if status.data is None else f"data {escaped(status.data)}",
        None if status.seed is None else f"seed {status.seed}",
        None if status.checkpoint is None else f"saved at {status.checkpoint:,}",
    )
    return ", ".join(word for word in words if word)


def _apart(console: Console, parts: Sequence[RenderableType]) -> Iterator[RenderableType]:
    for number, part in enumerate(parts):
        if number and console.is_terminal:
            yield ""
        yield part


def _head(shown: ShownRun) -> Drawn:
    status = shown.status

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        words, age = state_words(status), age_of(status)
        yield Text.assemble(
            f"{escaped(status.path)}: ",
            (status.state, COLOURS[status.state]),
            f", {words}" if words else "",
            f"; last sign of it {age} ago" if status.state != "done" else f"; {age} ago",
        )
        if status.reason:
            yield Text(f"{status.state}: {escaped(status.reason)}")
        for problem in shown.problems:
            yield Text(escaped(problem))
        if shown.unreadable:
            lines = count(len(shown.unreadable), "line")
            yield Text(f"Skipped {lines} of the logs that hold nothing ({shown.unreadable[0]}).")

    return Drawn(draw)


def _figures(shown: ShownRun) -> RenderableType | None:
    general = {general_name(name): one for name, one in shown.general.items()}
    measured = {"training text": shown.train, "held out": shown.validation, **general}
    known = {name: one for name, one in measured.items() if one is not None}
    if not known:
        return None
    has_bits = any(one.bits_per_byte_after is not None for one in known.values())
    rows = [(name, *_row(one, has_bits=has_bits)) for name, one in known.items()]
    heads = ["", "loss before", "after", "perplexity before", "after"]
    heads += ["bits a byte before", "after"] * has_bits
    return columns_or_lines(Table(rows, "l" + "r" * (len(heads) - 1), heads=heads))


def _row(one: BeforeAfter, *, has_bits: bool) -> tuple[str, ...]:
    perplexities = (one.perplexity_before, one.perplexity_after)
    shown = (_NOTHING if value is None else f"{value:,.2f}" for value in perplexities)
    bits = (loss_text(one.bits_per_byte_before), loss_text(one.bits_per_byte_after))
    losses = (loss_text(one.loss_before), loss_text(one.loss_after))
    return *losses, *shown, *(bits if has_bits else ())


def _documents(shown: ShownRun) -> RenderableType | None:
    """The documents whose loss fell least: noise, another language, markup."""
    if (found := shown.documents) is None:
        return None
    rows = [
        (
            quoted(one.start, at_most=_SHOWN_START),
            loss_text(one.loss_before),
            loss_text(one.loss_after),
            loss_text(one.fall),
        )
        for one in found.least
    ]
    title = (
        f"{loss_text(found.median_fall)} is the middle of {count(found.num_measured, 'document')}"
    )
    heads = (f"loss fell least ({title})", "loss before", "after", "fell by")
    return columns_or_lines(Table(rows, "lrrr", heads=heads))


def _settings(shown: ShownRun) -> Table | None:
    rows = [(escaped(name), escaped(value)) for name, value in shown.settings.items()]
    return Table(rows, "ll", title="settings that aren't defaults") if rows else None


def _samples(shown: ShownRun) -> Drawn | None:
    samples = shown.samples

    def draw(console: Console, width: int) -> RenderResult:
        for sample in samples[:_MAX_SAMPLES] if console.is_terminal else samples:
            text = f"{sample['prompt']}{sample['continuation']}"
            words = f"--- step {sample['step']:,}:\n{harmless(text.encode(errors='replace'))}"
            if console.is_terminal:
                yield Text(words)
            else:
                yield plain_lines(words.split("\n"))
        if console.is_terminal and len(samples) > _MAX_SAMPLES:
            more = count(len(samples) - _MAX_SAMPLES, "more prompt")
            yield Text(f"samples.jsonl has {more}.")

    return Drawn(draw) if samples else None
