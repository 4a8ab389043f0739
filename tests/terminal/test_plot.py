"""Lines drawn in characters: what is where, counted by hand."""

import math

import pytest

from gptft.terminal.plot import PlotLine, plot


def drawn(*lines: PlotLine, width: int = 40, height: int = 5) -> list[str]:
    return [row.plain for row in plot(lines, width=width, height=height)]


def test_a_line_goes_from_the_highest_value_to_the_lowest():
    rows = drawn(PlotLine("o", "loss", [(0, 5.0), (32, 1.0)]))
    assert rows[0].startswith("5.0 ┤o")
    assert rows[4].startswith("1.0 ┤")
    assert rows[4].endswith("o")
    assert rows[-1] == "o loss"
    assert [row.find("o") for row in rows[:5]] == sorted(row.find("o") for row in rows[:5])
    assert sum(row.count("o") for row in rows[:5]) == 30  # every column has the line once


def test_several_lines_share_the_axes_and_the_last_is_in_front():
    one = PlotLine("a", "first", [(0, 2.0), (10, 2.0)])
    two = PlotLine("b", "second", [(5, 2.0), (10, 0.0)])
    rows = drawn(one, two, height=3)
    assert rows[0].count("b") >= 1
    assert rows[0].index("b") > rows[0].index("a")
    assert rows[-1] == "a first  b second"
    assert rows[-2].strip() == "0" + " " * (rows[-2].index("10") - rows[-2].index("0") - 1) + (
        "10 step"
    )


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, math.nan)],
        [(1, math.inf), (2, -math.inf)],
        [(3, 1e308)],
    ],
)
def test_where_nothing_is_finite_nothing_is_drawn(points: list[tuple[int, float]]):
    assert drawn(PlotLine("o", "loss", points)) == []


@pytest.mark.parametrize(
    "points",
    [
        [(0, 1.0)],
        [(7, -3.5)],
        [(1, 2.0), (2, 2.0)],
        [(1, 2.0), (2, math.nan), (3, 1.0)],
        [(step, float(step % 7)) for step in range(5_000)],
        [(1, 1e99), (10**12, -1e99)],
        [(1, 1e-9), (2, 2e-9)],
    ],
)
@pytest.mark.parametrize("width", [1, 20, 100])
def test_any_points_fit(points: list[tuple[int, float]], width: int):
    rows = drawn(PlotLine("o", "loss", points), width=width)
    assert any("o" in row for row in rows[:5])
    if width == 100:
        assert max(map(len, rows)) <= width


def test_a_gap_stays_a_gap():
    [top, *_] = drawn(PlotLine("o", "x", [(0, 1.0), (10, 1.0), (11, math.nan), (30, 1.0)]))[2:]
    middle = top[top.index("o") :]
    assert "o     " in middle
