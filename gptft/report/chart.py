"""Points -> a line chart, in HTML with its lines an inline SVG, or as a file of SVG; no script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from gptft.report.language import Words
from gptft.report.render import render
from gptft.runs.read import Point

_SIZE = 1000  # of the SVG's own square; the page stretches it
_HUGE = 1e100  # beyond it a value is drawn no more than an infinite one
_MAX_POINTS = 800  # of a line; with more, only what still shows
_MAX_MARKS = 150  # points a reader can point at
_FILE_WIDTH, _FILE_HEIGHT = 820, 360  # of the plot in a file, without its labels
_LETTER, _KEY = 8.0, 52.0  # of a file's key: room for a letter, and for the dash and the gap


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: for the key and the tips.
        style: the CSS class: `train`, `validation` or `rate`.
        points: by ascending step; a value that isn't finite breaks the line.
    """

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class _Scale:
    """From steps and values to places in an SVG, where y grows downwards."""

    last: int
    low: float
    high: float
    width: int = _SIZE
    height: int = _SIZE

    def x(self, step: float) -> float:
        return round(self.width * step / self.last, 1)

    def y(self, value: float) -> float:
        return round(self.height * (self.high - value) / (self.high - self.low), 1)

    def spot(self, point: Point) -> str:
        return f"{self.x(point[0]):g} {self.y(point[1]):g}"


def _at_step(step: float) -> str:
    return f"step {step:,}"


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    shown: Callable[[float], str],
    style: str = "",
    words: Words,
    num_ticks: int = 6,
    low: float = math.inf,
) -> Markup:
    """Draw lines over steps.

    Args:
        lines: those without a finite point are left out.
        title: what the chart shows, for those who can't see it.
        shown: how a value is written in English.
        style: a further CSS class.
        words: the page's, which say what a step is called and how a number is written.
        num_ticks: on the axis of values, about.
        low: a value that the axis reaches down to, whatever the lines do.

    Returns:
        HTML; empty if there is nothing to draw.
    """
    lines = [line for line in lines if any(map(_is_drawn, line.points))]
    if not lines:
        return Markup()
    scale, x_ticks, y_ticks = _axes(lines, shown=shown, num_ticks=num_ticks, low=low)
    step, local = words.t["step"], words.local

    def at(number: float) -> str:
        return f"{step} {local(f'{number:,}')}"

    def figure(value: float) -> str:
        return local(shown(value))

    html = render(
        "chart.html.j2",
        title=title,
        style=style,
        step=step,
        size=_SIZE,
        lines=[(line, _path(line, scale), _marks(line, scale, figure, at)) for line in lines],
        x_ticks=[(local(text), place) for text, place in x_ticks],
        y_ticks=[(local(text), place) for text, place in y_ticks],
    )
    return Markup(html)


def svg_file(
    lines: Sequence[Line],
    *,
    title: str,
    shown: Callable[[float], str],
    num_ticks: int = 6,
    low: float = math.inf,
) -> str:
    """Draw lines over steps as an SVG file that stands alone: its own style, light or dark.

    Args:
        lines: those without a finite point are left out.
        title: what the chart shows; it stands above the lines.
        shown: how a value is written.
        num_ticks: on the axis of values, about.
        low: a value that the axis reaches down to, whatever the lines do.

    Returns:
        the file's text; empty if there is nothing to draw.
    """
    lines = [line for line in lines if any(map(_is_drawn, line.points))]
    if not lines:
        return ""
    size = (_FILE_WIDTH, _FILE_HEIGHT)
    scale, x_ticks, y_ticks = _axes(lines, shown=shown, num_ticks=num_ticks, low=low, size=size)
    return render(
        "chart.svg.j2",
        title=title,
        about=[_in_words(line, shown) for line in lines],
        width=_FILE_WIDTH,
        height=_FILE_HEIGHT,
        lines=[(line, _path(line, scale), _marks(line, scale, shown)) for line in lines],
        keys=_keys(lines),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
    )


def _axes(
    lines: Sequence[Line],
    *,
    shown: Callable[[float], str],
    num_ticks: int,
    low: float,
    size: tuple[int, int] = (_SIZE, _SIZE),
) -> tuple[_Scale, list[tuple[str, float]], list[tuple[str, float]]]:
    """The scale that holds all lines, and the ticks of both its axes: words and place."""
    values = [value for line in lines for _, value in filter(_is_drawn, line.points)]
    y_ticks = round_ticks(min(*values, low), max(values), at_most=num_ticks)
    last = max(1, *(step for line in lines for step, _ in line.points))
    x_ticks = [step for step in round_ticks(0, last, whole=True) if step <= last]
    scale = _Scale(last, y_ticks[0], y_ticks[-1], *size)
    labels = aligned([shown(tick) for tick in y_ticks])
    return (
        scale,
        [(f"{step:,}", scale.x(step)) for step in x_ticks],
        [(text, scale.y(tick)) for text, tick in zip(labels, y_ticks, strict=True)],
    )


def _in_words(line: Line, shown: Callable[[float], str]) -> str:
    """What a line does, for those who can't see it."""
    points = [*filter(_is_drawn, line.points)]
    (first, begins), (last, ends) = points[0], points[-1]
    if len(points) == 1:
        return f"{line.name}: {shown(begins)} at step {first:,}."
    lowest = min(value for _, value in points)
    return (
        f"{line.name}: {shown(begins)} at step {first:,}, {shown(ends)} at step {last:,}, "
        f"lowest {shown(lowest)}."
    )


def _keys(lines: Sequence[Line]) -> list[tuple[Line, float, int]]:
    """The lines with the place of each one's name in the key: x, and the row."""
    placed, x, row = [], 0.0, 0
    for line in lines:
        room = _KEY + _LETTER * len(line.name)
        if x and x + room > _FILE_WIDTH:
            x, row = 0.0, row + 1
        placed.append((line, x, row))
        x += room
    return placed


def round_ticks(low: float, high: float, *, whole: bool = False, at_most: int = 6) -> list[float]:
    """Round numbers, evenly spaced, from at or below `low` to at or above `high`.

    Args:
        low: finite.
        high: finite, at least `low`.
        whole: only whole numbers.
        at_most: ticks that should do; one or two more where the ends need them.

    >>> round_ticks(0.3, 9.1), round_ticks(0, 3, whole=True)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0, 1, 2, 3])
    """
    least = max(abs(low), abs(high)) * 1e-6 or 1.0
    if high - low < least:
        margin = max(abs(low) * 0.1, least)
        low, high = low - margin, high + margin
    rough = (high - low) / (at_most - 1)
    power = math.floor(math.log10(rough))
    # Ten to the power by way of text: 10.0**-2 isn't quite 0.01 on every machine.
    bases = ("1", "2", "5", "10") if whole else ("1", "2", "2.5", "5", "10")
    sizes = [float(f"{base}e{power}") for base in bases]
    size = next(size for size in sizes if size >= rough * (1 - 1e-9))
    if whole:
        size = max(1.0, size)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    ticks = [float(f"{number * size:.12g}") for number in range(first, last + 1)]
    return [int(tick) for tick in ticks] if whole else ticks


def thin(points: Sequence[Point], *, at_most: int) -> list[Point]:
    """Fewer points that draw the same line: of every stretch its ends and its extremes.

    >>> thin([(1, 5.0), (2, 1.0), (3, 9.0), (4, 6.0), (5, 7.0)], at_most=4)
    [(1, 5.0), (2, 1.0), (3, 9.0), (5, 7.0)]
    """
    if len(points) <= at_most:
        return list(points)
    stretch = math.ceil(len(points) / max(at_most // 4, 1))
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        lowest = min(part, key=lambda point: point[1])
        highest = max(part, key=lambda point: point[1])
        kept += sorted({part[0], lowest, highest, part[-1]})
    return kept


def short_number(value: float) -> str:
    """A number as short as a tick needs it.

    >>> short_number(0.25), short_number(0.0), short_number(12_500), short_number(2e-5)
    ('0.25', '0', '12,500', '2e-5')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    return scientific(value)


def scientific(value: float) -> str:
    """A number as a learning rate is written.

    >>> scientific(0.0015), scientific(5e-5), scientific(0.0)
    ('1.5e-3', '5e-5', '0')
    """
    if value == 0:
        return "0"
    mantissa, power = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"


def aligned(numbers: Sequence[str]) -> list[str]:
    """Plain decimals with equally many digits after the point; others as they are.

    >>> aligned(["0", "0.5", "1"]), aligned(["0", "5e-4"])
    (['0.0', '0.5', '1.0'], ['0', '5e-4'])
    """
    decimals = max(len(number.partition(".")[2]) for number in numbers)
    if not decimals or any("e" in number for number in numbers):
        return list(numbers)
    split = [number.partition(".") for number in numbers]
    return [f"{whole}.{fraction:0<{decimals}}" for whole, _, fraction in split]


def _is_drawn(point: Point) -> bool:
    return abs(point[1]) < _HUGE  # false for NaN as well


def _path(line: Line, scale: _Scale) -> str:
    """A line as an SVG path, broken where values aren't finite; a lone point as a dot."""
    segments = []
    for is_drawn, segment in groupby(line.points, _is_drawn):
        if is_drawn:
            spots = [scale.spot(point) for point in thin([*segment], at_most=_MAX_POINTS)]
            segments.append("M" + " L".join(spots) + " h.01" * (len(spots) == 1))
    return " ".join(segments)


def _marks(
    line: Line, scale: _Scale, shown: Callable[[float], str], at: Callable[[float], str] = _at_step
) -> list[tuple[str, str]]:
    """Where a reader can point and what they then read; none where points are too many."""
    points = list(filter(_is_drawn, line.points))
    if len(points) > _MAX_MARKS:
        return []
    tips = (f"{at(step)}: {line.name} {shown(value)}" for step, value in points)
    return list(zip(map(scale.spot, points), tips, strict=True))
