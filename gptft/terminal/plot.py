"""Lines of points -> a small drawing of them in the characters of a terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from rich.cells import cell_len
from rich.text import Text

from gptft.terminal.text import escaped

_LEAST_COLUMNS = 8
_BARS = "▁▂▃▄▅▆▇█"
_HUGE = 1e100  # beyond it a value is drawn no more than an infinite one


@dataclass(frozen=True)
class PlotLine:
    """One line.

    Attributes:
        mark: one cell that it is drawn with.
        name: for the key.
        points: (step, value), by ascending step; a value that isn't finite breaks the line.
        style: of rich.
    """

    mark: str
    name: str
    points: Sequence[tuple[int, float]]
    style: str = ""


def plot(lines: Sequence[PlotLine], *, width: int, height: int = 10) -> list[Text]:
    """Draw lines over steps, the last in front.

    Args:
        lines: those without a finite point are left out.
        width: cells of the whole drawing.
        height: lines of the drawing itself; three more are for its axis and its key.

    Returns:
        lines of text; none if there is nothing to draw.

    >>> for row in plot([PlotLine("o", "loss", [(0, 3.0), (8, 1.0)])], width=14, height=3):
    ...     print(row.plain)
    3.0 ┤oo
        │  oooo
    1.0 ┤      oo
        └────────
         0      8 step
    o loss
    """
    shown = [line for line in lines if any(map(_is_drawn, line.points))]
    if not shown:
        return []
    values = [value for line in shown for _, value in filter(_is_drawn, line.points)]
    low, high = min(values), max(values)
    last = max(1, *(step for line in shown for step, _ in line.points))
    labels = _labels(low, high)
    margin = max(map(len, labels))
    columns = max(width - margin - 7, _LEAST_COLUMNS)  # at its right end is the axis' name
    cells: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(height)]
    for line in shown:
        for column, value in _by_column(line.points, columns=columns, last=last):
            share = (high - value) / (high - low) if high > low else 0.5
            cells[round(share * (height - 1))][column] = (line.mark, line.style)
    drawn = []
    for number, row in enumerate(cells):
        label = labels[0] if number == 0 else labels[1] if number == height - 1 else ""
        text = Text(f"{label:>{margin}} {'┤' if label else '│'}")
        for mark, style in row:
            text.append(mark, style)
        drawn.append(text)
    end = f"{last:,}"
    drawn.append(Text(" " * (margin + 1) + "└" + "─" * columns))
    drawn.append(Text(" " * (margin + 2) + f"0{end:>{columns - 1}} step"))
    return [_rstripped(text) for text in drawn] + [*_keys(shown, width)]


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Values as a line of bars, the mean of several in each cell where there are more than cells.

    Args:
        values: in order; one that isn't finite is a gap.
        width: cells at most, at least 1.

    >>> sparkline([4.0, 3.0, math.nan, 1.0], width=8), sparkline([5.0, 3.0, 1.0, 1.0], width=2)
    ('█▆ ▁', '█▁')
    """
    width = max(min(width, len(values)), 1)
    cells: list[list[float]] = [[] for _ in range(width)]
    for place, value in enumerate(values):
        if abs(value) < _HUGE:
            cells[place * width // len(values)].append(value)
    means = [math.fsum(cell) / len(cell) if cell else None for cell in cells]
    known = [mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    most = len(_BARS) - 1

    def bar(mean: float | None) -> str:
        if mean is None:
            return " "
        return _BARS[round((mean - low) / (high - low) * most) if high > low else 0]

    return "".join(map(bar, means))


def _labels(low: float, high: float) -> tuple[str, str]:
    """The highest and the lowest value, with as many decimals as tell them apart."""
    decimals = 1 if high - low >= 1 else 3
    if max(abs(low), abs(high)) >= 1e6 or high - low < 1e-3:
        return f"{high:.4g}", f"{low:.4g}" if high > low else ""
    return f"{high:.{decimals}f}", f"{low:.{decimals}f}" if high > low else ""


def _by_column(
    points: Sequence[tuple[int, float]], *, columns: int, last: int
) -> Iterator[tuple[int, float]]:
    """A line's value in each column: the mean of its points there, or between two of them."""
    for is_drawn, run in groupby(points, _is_drawn):
        found: dict[int, list[float]] = {}
        for step, value in run if is_drawn else ():
            found.setdefault(min(step * columns // (last + 1), columns - 1), []).append(value)
        means = [(column, math.fsum(values) / len(values)) for column, values in found.items()]
        for (left, first), (right, second) in pairwise(means):
            for column in range(left, right):
                yield column, first + (second - first) * (column - left) / (right - left)
        yield from means[-1:]


def _keys(lines: Sequence[PlotLine], width: int) -> Iterator[Text]:
    """What each mark stands for, as many in a line as there is room for."""
    text = Text()
    for line in lines:
        name = f" {escaped(line.name)}"
        if text and cell_len(text.plain) + 3 + cell_len(name) > width:
            yield text
            text = Text()
        text.append("  " if text else "")
        text.append(line.mark, line.style)
        text.append(name)
    yield text


def _rstripped(text: Text) -> Text:
    text.rstrip()
    return text


def _is_drawn(point: tuple[int, float]) -> bool:
    return abs(point[1]) < _HUGE  # false for NaN as well
