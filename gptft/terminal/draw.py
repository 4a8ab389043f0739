"""Rows, texts and probabilities -> what suits a console: columns on a terminal, tabs off one.

Off a terminal nothing is cut or wrapped, so that it can be piped. rich is imported only to draw.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal, TypeAlias

from gptft.terminal.text import fit

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.segment import Segment
    from rich.text import Text

Cell: TypeAlias = "str | Text"
Line: TypeAlias = "list[Segment]"

GAP = "  "  # between columns
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NARROWEST = {"l": 2, "c": 6}  # cells of a column that folds or is cut, whatever the terminal
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


@dataclass(frozen=True)
class Drawn:
    """A renderable for `console.print` that suits its console.

    Attributes:
        draw: a console and its width in cells -> what is printed there.
    """

    draw: "Callable[[Console, int], Iterable[RenderableType | Segment | Table]]"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
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

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment
        from rich.text import Text

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

    def widths(self, width: int) -> list[int]:
        """Cells of each column within `width`: those that fold or are cut share what is left."""
        rows = [self.heads, *self.rows] if self.heads else self.rows
        widths = [max(map(_cell_width, column)) for column in zip(*rows, strict=True)]
        narrowed = [at for at in range(len(widths)) if self.align[at] in "lc"]
        room = width - len(GAP) * (len(widths) - 1) - sum(widths)
        room += sum(widths[at] for at in narrowed)
        for left, at in enumerate(sorted(narrowed, key=lambda at: widths[at])):
            share = room // (len(narrowed) - left)
            widths[at] = min(widths[at], max(share, _NARROWEST[self.align[at]]))
            room -= widths[at]
        return widths

    def lines(self, console: "Console", width: int) -> "Iterator[Line]":
        """The lines of heads and rows in columns, none wider than `width`, for a terminal."""
        from rich.segment import Segment

        if not self.rows and not self.heads:
            return
        widths = self.widths(width)
        rows = [(self.heads, "dim")] if self.heads else []
        styles = self.styles or [""] * len(self.rows)
        for row, style in [*rows, *zip(self.rows, styles, strict=True)]:
            columns = zip(row, widths, self.align, strict=True)
            cells = [_cell_lines(console, *column, style) for column in columns]
            for parts in zip_longest(*cells):
                line: Line = []
                for at, part in enumerate(parts):
                    line += [Segment(GAP)] * bool(at)
                    line += part or [Segment(" " * widths[at])]
                yield _cropped(line, width)


def stacked(*parts: "RenderableType | Table") -> Drawn:
    """Renderables under one another, with an empty line between them on a terminal."""

    def draw(console: "Console", width: int) -> "Iterator[RenderableType]":
        for number, part in enumerate(parts):
            if number and console.is_terminal:
                yield ""
            yield part

    return Drawn(draw)


def plain_lines(lines: Iterable[str]) -> "Segment":
    """Lines as they are, tabs among them, which a `Text` would lose."""
    from rich.segment import Segment

    return Segment("".join(f"{line}\n" for line in lines))


def has_colour(console: "Console") -> bool:
    """Whether a console is a terminal that shows colours."""
    return console.is_terminal and not console.is_dumb_terminal and not console.no_color


def probability_style(value: float) -> str:
    """The rich style of a probability: blue where it is likely, red where it isn't."""
    return next(style for least, _, style in _PROBABILITY_LEVELS if value >= least)


def probability_legend() -> "Text":
    """What the colours of probabilities mean, in a line."""
    from rich.text import Text

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
    from rich.cells import cell_len

    return max(map(cell_len, str(cell).split("\n")))


def _cell_lines(console: "Console", cell: Cell, width: int, align: str, style: str) -> "list[Line]":
    """A cell's lines, each of `width` cells."""
    from rich.cells import cell_len
    from rich.segment import Segment
    from rich.text import Text

    is_cut = align == "c"
    if isinstance(cell, str) and (is_cut or cell_len(cell) <= width):  # most cells, and quick
        filled = " " * (width - cell_len(cell)) + cell if align == "r" else fit(cell, width)
        return [[Segment(filled, console.get_style(style))]]
    text = Text(cell) if isinstance(cell, str) else cell.copy()
    text.stylize_before(style)
    overflow: Literal["ellipsis", "fold"] = "ellipsis" if is_cut else "fold"
    lines = text.wrap(console, width, overflow=overflow, no_wrap=align != "l")
    for line in lines:
        line.align("right" if align == "r" else "left", width)
    return [[*line.render(console)] for line in lines]


def _cropped(line: Line, width: int) -> Line:
    """A line without spaces at its end, and cut where it is wider than `width`."""
    from rich.segment import Segment

    while line and not line[-1].text.strip():
        line.pop()
    if line:
        line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
    return Segment.adjust_line_length(line, width, pad=False)
