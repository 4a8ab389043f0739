import math
import re
from xml.etree import ElementTree

import pytest

from gptft.report.chart import (
    Line,
    line_chart,
    round_ticks,
    scientific,
    short_number,
    svg_file,
    thin,
)
from gptft.report.language import Words

WORDS = Words.of("en", "report")


def chart(*points: tuple[int, float]) -> str:
    return line_chart(
        [Line("loss", "train", points)], title="Loss", shown=short_number, words=WORDS
    )


def labels(html: str, axis: str) -> list[str]:
    return re.findall(rf'<span class="{axis}" style="[^"]*">([^<]*)</span>', html)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 10.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        (2.31, 8.95, [2.0, 4.0, 6.0, 8.0, 10.0]),
        (0.0, 0.001, [0.0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]),
        (-1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (3.0, 3.0, [2.6, 2.8, 3.0, 3.2, 3.4]),
        (0.0, 0.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, ticks: list[float]):
    assert round_ticks(low, high) == ticks


@pytest.mark.parametrize("low", [0.0, -3.7, 1e-9, 5e20, 123456.789, -1e99])
@pytest.mark.parametrize("span", [0.0, 1e-12, 1e-3, 0.7, 42.0, 1e6, 1e99])
def test_ticks_cover_any_values_and_are_few(low: float, span: float):
    high = low + span
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 9
    slack = (ticks[-1] - ticks[0]) * 1e-6
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("last", [1, 2, 3, 7, 12, 60, 399, 1420, 7149, 10**6])
def test_whole_ticks_are_whole(last: int):
    ticks = round_ticks(0, last, whole=True)
    assert all(isinstance(tick, int) for tick in ticks)
    assert len(ticks) <= 8
    assert sum(tick <= last for tick in ticks) >= 2


def test_points_land_where_the_numbers_say():
    html = chart((0, 10.0), (50, 0.0), (100, 5.0))
    assert 'd="M0 0 L500 1000 L1000 500"' in html
    assert labels(html, "y") == ["0", "2", "4", "6", "8", "10"]
    assert labels(html, "x") == ["0", "20", "40", "60", "80", "100"]
    assert html.count("<title>") == 3
    assert "<title>step 50: loss 0</title>" in html


def test_the_axis_can_be_made_to_reach_down_to_zero():
    line = Line("rate", "rate", [(0, 8e-4), (1, 1e-3)])
    html = line_chart([line], title="Rate", shown=scientific, words=WORDS, low=0.0)
    assert labels(html, "y") == ["0", "2e-4", "4e-4", "6e-4", "8e-4", "1e-3"]


def test_ticks_have_equally_many_decimals():
    assert labels(chart((0, 8.75), (9, 8.95)), "y") == ["8.75", "8.80", "8.85", "8.90", "8.95"]


def test_no_finite_point_draws_nothing():
    assert chart() == chart((1, math.nan)) == chart((1, math.inf), (2, 1e300)) == ""


def test_one_point_is_a_dot():
    html = chart((3, 2.5))
    assert re.search(r'class="line train" d="M1000 \d+ h\.01"', html)
    assert chart((0, 2.5))


def test_values_that_are_not_finite_break_the_line():
    html = chart((0, 1.0), (1, 0.0), (2, math.nan), (3, math.inf), (4, 0.5))
    assert 'd="M0 0 L250 1000 M1000 500 h.01"' in html
    assert "nan" not in html
    assert "inf" not in html


def test_a_line_without_points_is_not_in_the_key():
    lines = [Line("a", "train", [(1, 1.0)]), Line("b", "validation", [])]
    html = line_chart(lines, title="Loss", shown=short_number, words=WORDS)
    assert re.findall(r'class="key [^>]*>([^<]*)<', html) == ["a"]


def test_a_long_line_is_thinned_and_keeps_its_spikes():
    points = [(step, 1.0) for step in range(100_000)]
    points[54_321] = (54_321, 99.0)
    thinned = thin(points, at_most=800)
    assert len(thinned) <= 800
    assert points[54_321] in thinned
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert thinned == sorted(thinned)
    assert len(chart(*points)) < 20_000


SVG = "{http://www.w3.org/2000/svg}"


def svg(*lines: Line, title: str = "Loss by step") -> ElementTree.Element:
    return ElementTree.fromstring(svg_file(lines, title=title, shown=short_number))


def test_a_file_of_svg_stands_alone():
    train = Line("training loss", "train", [(0, 4.0), (50, 0.0), (100, 2.0)])
    held_out = Line("held-out loss", "validation", [(50, 3.0), (100, math.nan)])
    drawn = svg(train, held_out)
    assert drawn.findtext(f"{SVG}title") == "Loss by step"
    assert drawn.findtext(f"{SVG}desc") == (
        "training loss: 4 at step 0, 2 at step 100, lowest 0. held-out loss: 3 at step 50."
    )
    style = drawn.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    paths = {one.get("class"): one.get("d") for one in drawn.findall(f"{SVG}g/{SVG}path")}
    assert paths["line train"] == "M0 0 L410 360 L820 180"
    assert paths["line validation"] == "M410 90 h.01"
    tips = [one.text for one in drawn.iter(f"{SVG}title")][1:]
    assert "step 50: held-out loss 3" in tips
    source = svg_file([train], title="x", shown=short_number)
    assert re.findall('https?:[^"]*', source) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|href|url\(|@import| on\w+=", source)


@pytest.mark.parametrize("title", ["<b>&\"'", "а\x1b[31m\x00", "]]>", "سلام"])
def test_a_title_in_a_file_is_no_markup(title: str):
    drawn = svg(Line(title, "train", [(1, 1.0)]), title=title)
    shown = title.replace("\x1b", "␛").replace("\x00", "␀")
    assert drawn.findtext(f"{SVG}title") == shown
    assert shown in [one.text for one in drawn.iter(f"{SVG}text")]


def test_names_that_fill_a_row_of_the_key_go_on_in_the_next_and_push_the_plot_down():
    one = [svg(Line("loss", "train", [(1, 1.0)]))]
    many = svg(*(Line(f"runs/a-long-name-{n}", "train", [(1, 1.0)]) for n in range(9)))
    rows = {float(t.get("y") or 0) for t in many.findall(f"{SVG}text")[1:]}
    assert len(rows) == 3
    assert all(
        float(t.get("x") or 0) + 8 * len(t.text or "") <= 930 for t in many.iter(f"{SVG}text")
    )
    heights = [float((each.get("viewBox") or "").split()[3]) for each in [*one, many]]
    assert heights[1] == heights[0] + 2 * 22


def test_nothing_to_draw_makes_no_file():
    assert svg_file([Line("a", "train", [(1, math.nan)])], title="x", shown=str) == ""
