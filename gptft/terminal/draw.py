"""Rows, texts and probabilities -> what suits a console: columns on a terminal, tabs off one.

Off a terminal nothing is cut or wrapped, so that it can be piped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Literal, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from gptft.terminal.cells import fit

Cell: TypeAlias = str | Text
Line: TypeAlias = list[Segment]

GAP = "  "  # between columns
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NARROWEST = {"l": 2, "c": 6}  # cells of a column that folds or is cut, whatever the terminal
_LEAST_WORDS = 6  # cells of a first column, in which words can be read
_MIN_WIDTH = 12  # cells; a terminal narrower still is drawn as if it were so wide
# From likely to unlikely: the least probability, and black on one of the 256 fixed colours, from
# blue to red through yellow: readable on any background, told apart without red and green.
_PROBABILITY_LEVELS = (
    (0.5, "≥50%", "color(16) on color(74)"),
    (0.1, "≥10%", "color(16) on color(153)"),
    (0.01, "≥1%", "color(16) on color(229)"),
    (0.001, "≥0.1%", "color(16) on color(215)"),
    (0.0, "less", "color(16) on color(167)"),
)
PROBABILITY_NAMES = tuple(name for _, name, _ in _PROBABILITY_LEVELS)


@dataclass(frozen=True)
class Drawn:
    """A renderable for `console.print` that suits its console.

    Attributes:
        draw: a console and its width in cells -> what is printed there.
    """

    draw: Callable[[Console, int], RenderResult]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.draw(console, max(options.max_width, _MIN_WIDTH))


@dataclass(frozen=True)
class Table:
    """Rows of equal length: columns on a terminal, lines with tabs off one.

    Attributes:
        rows: cells by row, which hold nothing a terminal would obey.
        align: a letter a column: l left and folded where it is too long, c left and cut there, n
            left and never folded, r right and never folded.
        title: stands above them; "" for none. Off a terminal it begins with #.
        heads: names of the columns, none where they need none.
        styles: a rich style by row, "" for none; empty where no row has one.
    """

    rows: Sequence[Sequence[Cell]]
    align: str
    title: str = ""
    heads: Sequence[str] = ()
    styles: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            lines = ["\t".join(map(str, row)) for row in [self.heads, *self.rows]]
            if not self.heads:  # with heads a script counts on as many cells in every row
                lines = [line.rstrip("\t") for line in lines[1:]]
            yield plain_lines([f"# {self.title}", *lines] if self.title else lines)
            return
        if self.title:
            yield Text(self.title, "bold")
        for line in self.lines(console, max(options.max_width, _MIN_WIDTH)):
            yield from line
            yield Segment.line()

    @cached_property
    def _natural_widths(self) -> list[int]:
        rows = [self.heads, *self.rows] if self.heads else self.rows
        return [max(map(_cell_width, column)) for column in zip(*rows, strict=True)]

    def widths(self, width: int) -> list[int]:
        """Cells of each column within `width`: those that fold or are cut share what is left."""
        widths = [*self._natural_widths]
        narrowed = [at for at in range(len(widths)) if self.align[at] in "lc"]
        room = width - len(GAP) * (len(widths) - 1) - sum(widths)
        room += sum(widths[at] for at in narrowed)
        for left, at in enumerate(sorted(narrowed, key=lambda at: widths[at])):
            share = room // (len(narrowed) - left)
            widths[at] = min(widths[at], max(share, _NARROWEST[self.align[at]]))
            room -= widths[at]
        return widths

    def fits(self, width: int, *, least: int) -> bool:
        """Whether all columns have room within `width`, those that fold `least` cells of theirs."""
        widths = self.widths(width)
        wanted = (min(natural, least) for natural in self._natural_widths)
        is_readable = all(has >= wants for has, wants in zip(widths, wanted, strict=True))
        return is_readable and sum(widths) + len(GAP) * (len(widths) - 1) <= width

    def lines(self, console: Console, width: int) -> Iterator[Line]:
        """The lines of heads and rows in columns, none wider than `width`, for a terminal."""
        if not self.rows and not self.heads:
            return
        widths = self.widths(width)
        is_wider = sum(widths) + len(GAP) * (len(widths) - 1) > width
        rows = [(self.heads, "dim")] if self.heads else []
        for row, style in [*rows, *zip_longest(self.rows, self.styles, fillvalue="")]:
            drawn = console.get_style(style)
            columns = [*zip(row, widths, self.align, strict=True)]
            filled = [_filled(cell, w, a) for cell, w, a in columns if isinstance(cell, str)]
            texts = [text for text in filled if text is not None]
            if len(texts) == len(row):  # one segment: a long text has ten thousands of such rows
                parts: Iterable[Line] = [[Segment(GAP.join(texts).rstrip(), drawn)]]
            else:
                cells = [_cell_lines(console, *column, drawn) for column in columns]
                parts = (_joined(line, widths) for line in zip_longest(*cells))
            for line in parts:
                yield Segment.adjust_line_length(line, width, pad=False) if is_wider else line


def columns_or_lines(table: Table) -> Drawn:
    """A table with heads; on a terminal too narrow for its columns each row as lines of its own.

    Numbers stay whole in it: below the row's first cell stands `head: cell`, a line each.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        widths = table.widths(width)
        fits = sum(widths) + len(GAP) * (len(widths) - 1) <= width and widths[0] >= _LEAST_WORDS
        if fits or not console.is_terminal:
            yield table
            return
        for first, *cells in table.rows:
            yield Text(str(first))
            for head, cell in zip(table.heads[1:], cells, strict=True):
                yield Text(f"  {head}: {cell}")

    return Drawn(draw)


def stacked(*parts: RenderableType) -> Drawn:
    """Renderables under one another, with an empty line between them on a terminal."""

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        for number, part in enumerate(parts):
            if number and console.is_terminal:
                yield ""
            yield part

    return Drawn(draw)


def plain_lines(lines: Iterable[str]) -> Segment:
    """Lines as they are, tabs among them, which a `Text` would lose."""
    return Segment("".join(f"{line}\n" for line in lines))


def has_colour(console: Console) -> bool:
    """Whether a console is a terminal that shows colours."""
    return console.is_terminal and not console.is_dumb_terminal and not console.no_color


def probability_level(value: float) -> int:
    """The number of a probability's colour, from 0, the likeliest; see `PROBABILITY_NAMES`."""
    return next(n for n, (least, _, _) in enumerate(_PROBABILITY_LEVELS) if value >= least)


def probability_style(value: float) -> str:
    """The rich style of a probability: blue where it is likely, red where it isn't."""
    return _PROBABILITY_LEVELS[probability_level(value)][2]


def probability_legend() -> Text:
    """What the colours of probabilities mean, in a line."""
    parts = [((f" {name} ", style), " ") for _, name, style in _PROBABILITY_LEVELS]
    return Text.assemble(*(part for pair in parts for part in pair), "probability")


def bar(share: float, *, width: int) -> str:
    """A bar of `share` of `width` cells, to an eighth of a cell.

    >>> bar(0.5, width=5), bar(1.0, width=3), bar(0.0, width=3)
    ('██▌', '███', '')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _cell_width(cell: Cell) -> int:
    if isinstance(cell, str):
        return len(cell) if cell.isascii() else cell_len(cell)
    return max(map(cell_len, cell.plain.split("\n")))


def _filled(cell: str, width: int, align: str) -> str | None:
    """A cell of exactly `width` cells; None where it has to be folded."""
    room = width - _cell_width(cell)
    if room >= 0:
        return " " * room + cell if align == "r" else cell + " " * room
    return fit(cell, width) if align == "c" else None


def _cell_lines(console: Console, cell: Cell, width: int, align: str, style: Style) -> list[Line]:
    """A cell's lines, each of `width` cells."""
    filled = _filled(str(cell), width, align) if isinstance(cell, str) or not cell.spans else None
    if filled is not None and "\n" not in filled:
        own = console.get_style("" if isinstance(cell, str) else cell.style)
        return [[Segment(filled, style + own)]]
    text = Text(cell) if isinstance(cell, str) else cell.copy()
    text.stylize_before(style)
    overflow: Literal["ellipsis", "fold"] = "ellipsis" if align == "c" else "fold"
    lines = text.wrap(console, width, overflow=overflow, no_wrap=align != "l")
    for line in lines:
        line.align("right" if align == "r" else "left", width)
    return [[*line.render(console)] for line in lines]


def _joined(cells: Sequence[Line | None], widths: Sequence[int]) -> Line:
    """Cells of one line beside one another, without spaces at the end."""
    line: Line = []
    for cell, width in zip(cells, widths, strict=True):
        line += [*(cell or [Segment(" " * width)]), Segment(GAP)]
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
    return line
