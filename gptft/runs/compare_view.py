"""A comparison of runs -> what a person sees of it: figures, settings, curves and samples."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from gptft.runs.compare import UNKNOWN, ComparedRun, RunComparison
from gptft.runs.read import Point
from gptft.runs.show_view import MAX_WIDTH, loss_text, points_table
from gptft.runs.status_view import COLOURS
from gptft.terminal.draw import Cell, Drawn, Table, columns_or_lines
from gptft.terminal.plot import PlotLine, plot
from gptft.terminal.text import escaped, harmless, quoted
from gptft.terminal.words import duration

Figure = tuple[str, str, Callable[[ComparedRun], str]]

_STYLES = ("blue", "yellow", "green", "magenta", "cyan", "red")
_LEAST = 12  # cells of a name; with less, the next of these figures is left out
_LEFT_OUT = (
    "held_out_before", "seconds", "lowest_step", "perplexity", "lowest_loss", "general_english",
    "general_russian",
)  # fmt: skip
_MAX_SAMPLES = 3  # prompts on a terminal
_SHOWN_PROMPT = 60  # characters
_NOTHING_WRITTEN = "(nothing)"


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


# By the attribute, the name in tables and how it is written.
FIGURES: tuple[Figure, ...] = (
    ("step", "step", lambda one: _whole(one.step)),
    ("training_loss", "training loss", lambda one: loss_text(one.training_loss)),
    ("held_out_before", "held out before", lambda one: loss_text(one.held_out_before)),
    ("held_out_loss", "held out", lambda one: loss_text(one.held_out_loss)),
    (
        "perplexity",
        "perplexity",
        lambda one: UNKNOWN if one.perplexity is None else f"{one.perplexity:,.2f}",
    ),
    ("lowest_loss", "lowest", lambda one: loss_text(one.lowest_loss)),
    ("lowest_step", "at step", lambda one: _whole(one.lowest_step)),
    ("bits_per_byte", "bits a byte", lambda one: loss_text(one.bits_per_byte)),
    ("general_russian", "general, Russian", lambda one: loss_text(one.general_russian)),
    ("general_english", "general, English", lambda one: loss_text(one.general_english)),
    ("seconds", "time", lambda one: UNKNOWN if one.seconds is None else duration(one.seconds)),
)


def comparison_view(compared: RunComparison) -> Drawn:
    """All of it; off a terminal tables with tabs, every point of the curves among them."""

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        parts = [_figures(compared), _settings(compared), _curves(compared), _samples(compared)]
        shown = [part for part in parts if part is not None]
        for number, part in enumerate(shown):
            if number and console.is_terminal:
                yield ""
            yield part

    return Drawn(draw)


def known_figures(compared: RunComparison) -> list[Figure]:
    """The figures that at least one of the runs has."""
    return [
        figure
        for figure in FIGURES
        if any(getattr(one, figure[0]) is not None for one in compared.runs)
    ]


def curves_of(compared: RunComparison) -> tuple[str, list[list[Point]]]:
    """What is drawn of each run, and what it is: held-out loss where any has more than its ends."""
    held_out = [one.held_out for one in compared.runs]
    if any(len(points) > 1 for points in held_out):
        return "held-out loss", held_out
    return "training loss", [one.training for one in compared.runs]


def _figures(compared: RunComparison) -> Drawn:
    """A row a run; where there is little room the least important figures are left out."""

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        figures = known_figures(compared)
        table = _figure_table(compared, figures)
        for name in _LEFT_OUT if console.is_terminal else ():
            if not table.fits(width, least=_LEAST):
                figures = [figure for figure in figures if figure[0] != name]
                table = _figure_table(compared, figures)
        yield columns_or_lines(table)

    return Drawn(draw)


def _figure_table(compared: RunComparison, figures: Sequence[Figure]) -> Table:
    rows: list[list[Cell]] = []
    for place, one in enumerate(compared.runs):
        row: list[Cell] = [_named(one), Text(one.state, COLOURS[one.shown.status.state])]
        for name, _, shown in figures:
            is_best = place in compared.best.get(name, ())
            row.append(Text(f"{shown(one)}*", "bold") if is_best else shown(one))
        rows.append(row)
    heads = ("* is best", "state", *(title for _, title, _ in figures))
    return Table(rows, "ln" + "r" * len(figures), heads=heads)


def _settings(compared: RunComparison) -> Drawn | None:
    """The settings that differ, on a terminal in as few columns as can be."""
    settings, title = compared.settings, "settings that differ"

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if len(compared.runs) <= len(settings) or not console.is_terminal:
            heads = ["", *(one.mark for one in compared.runs)]
            rows = [[escaped(name), *map(escaped, values)] for name, values in settings.items()]
        else:
            heads = ["", *map(escaped, settings)]
            rows = [
                [_named(one), *(escaped(values[place]) for values in settings.values())]
                for place, one in enumerate(compared.runs)
            ]
        yield Table(rows, "l" * len(heads), title=title, heads=heads)

    return Drawn(draw) if settings else None


def _curves(compared: RunComparison) -> RenderableType | None:
    what, curves = curves_of(compared)
    if not any(curves):
        return None

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if not console.is_terminal:
            named = zip(compared.runs, curves, strict=True)
            yield points_table({f"{what} {one.mark}": points for one, points in named})
            return
        lines = [
            PlotLine(one.mark, one.name, points, _STYLES[place % len(_STYLES)])
            for place, (one, points) in enumerate(zip(compared.runs, curves, strict=True))
        ]
        yield Text(what, "bold")
        yield Group(*plot(lines, width=min(width, MAX_WIDTH), height=14))

    return Drawn(draw)


def _samples(compared: RunComparison) -> Drawn | None:
    samples = compared.samples

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        for sample in samples[:_MAX_SAMPLES] if console.is_terminal else samples:
            prompt = quoted(sample["prompt"], at_most=_SHOWN_PROMPT)
            yield Text(f"prompt {prompt}", "bold") if console.is_terminal else f"# prompt {prompt}"
            texts = sample["continuations"]
            rows = [
                (one.mark, _one_sample(text, is_terminal=console.is_terminal))
                for one, text in zip(compared.runs, texts, strict=True)
                if text is not None
            ]
            yield Table(rows, "nl")

    return Drawn(draw) if samples else None


def _one_sample(text: str, *, is_terminal: bool) -> str:
    if not text:
        return _NOTHING_WRITTEN
    shown = harmless(text.encode(errors="replace"))
    return shown if is_terminal else escaped(shown, {"\n": "↵"})


def _named(one: ComparedRun) -> str:
    return f"{one.mark} {escaped(one.name)}"
