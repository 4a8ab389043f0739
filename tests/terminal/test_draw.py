"""Tables and colours on terminals of any width, and off one."""

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gptft.terminal.draw import (
    Table,
    bar,
    columns_or_lines,
    has_colour,
    probability_legend,
    probability_style,
    stacked,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def console(width: int | None = 80, **more) -> Console:
    return Console(
        file=io.StringIO(),
        width=width or 100_000,
        force_terminal=width is not None,
        color_system="256" if width else None,
        soft_wrap=width is None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
        **more,
    )


def lines_of(view, *, width: int | None = 80) -> list[str]:
    target = console(width, no_color=True)
    return "".join(s.text for s in target.render(view) if not s.control).splitlines()


ROWS = [("Мороз", "1", "и солнце; день чудесный"), ("中", "1,234", "да")]


class TestTable:
    def test_columns_on_a_terminal(self):
        table = Table(ROWS, "lrl", title="Стихи", heads=("text", "count", "more"))
        assert lines_of(table) == [
            "Стихи",
            "text   count  more",
            "Мороз      1  и солнце; день чудесный",
            "中     1,234  да",
        ]

    def test_tabs_off_one_and_nothing_cut(self):
        table = Table([*ROWS, ("a", "", "")], "lrc", title="Стихи", heads=("text", "count", "more"))
        assert lines_of(table, width=None) == [
            "# Стихи",
            "text\tcount\tmore",
            "Мороз\t1\tи солнце; день чудесный",
            "中\t1,234\tда",
            "a\t\t",
        ]
        assert lines_of(Table([("a", "", "")], "lrc"), width=None) == ["a"]

    def test_a_narrow_terminal_folds_and_keeps_numbers_whole(self):
        assert lines_of(Table(ROWS, "lrl"), width=26) == [
            "Мороз      1  и солнце;",
            "              день",
            "              чудесный",
            "中     1,234  да",
        ]

    def test_or_cuts(self):
        assert lines_of(Table(ROWS, "lrc"), width=26) == [
            "Мороз      1  и солнце; д…",
            "中     1,234  да",
        ]

    def test_short_columns_leave_their_room_to_long_ones(self):
        table = Table([("a" * 4, "b" * 30, "c" * 30)], "lll")
        assert table.widths(50) == [4, 21, 21]
        assert table.widths(100) == [4, 30, 30]

    def test_folding_loses_nothing_on_a_narrow_terminal(self):
        row = ("a" * 14, "default", "whole number, at least 1", "Tokens to write at most.")
        lines = lines_of(Table([row], "nlll"), width=40)
        assert sorted("".join("".join(lines).split())) == sorted("".join(row).replace(" ", ""))

    def test_cells_with_styles_of_their_own(self):
        cell = Text.assemble(("а", "bold"), "б\n", ("в", "red"))
        table = Table([("1", cell), ("2", "г")], "rl", styles=["", "dim"])
        assert lines_of(table) == ["1  аб", "   в", "2  г"]
        assert lines_of(table, width=None) == ["1\tаб", "в", "2\tг"]
        styles = {s.text.strip(): str(s.style) for s in console().render(table)}
        assert (styles["а"], styles["в"], styles["2  г"]) == ("bold", "red", "dim")

    def test_markup_is_text(self):
        assert lines_of(Table([("[bold]", ":smile:")], "ll")) == ["[bold]  :smile:"]

    def test_no_rows(self):
        assert lines_of(Table([], "ll", title="Nothing")) == ["Nothing"]
        assert lines_of(Table([], "ll", heads=("a", "b"))) == ["a  b"]
        assert lines_of(Table([], "ll")) == []

    @pytest.mark.parametrize("align", ["llr", "clr", "nlr", "rcc"])
    @pytest.mark.parametrize("width", [12, 20, 40, 100])
    @settings(patient, max_examples=20)
    @given(st.lists(st.lists(st.text("аб 中😀é"), min_size=3, max_size=3), max_size=4))
    def test_never_wider_than_the_terminal(self, width, align, rows):
        lines = lines_of(Table(rows, align), width=width)
        assert all(cell_len(line) <= width for line in lines)
        assert len(lines) >= len(rows)


def test_tables_stand_apart_on_a_terminal_alone():
    two = stacked(Table(ROWS[:1], "lrl", title="a"), Table(ROWS[:1], "lrl", title="b"))
    assert lines_of(two)[2] == ""
    assert lines_of(two, width=None)[2] == "# b"


def test_bars_are_to_an_eighth():
    assert [bar(n / 16, width=2) for n in (0, 1, 8, 9, 16)] == ["", "▏", "█", "█▏", "██"]
    assert bar(7.0, width=3) == "███"


def test_every_probability_has_a_style_and_the_legend_names_each():
    styles = [probability_style(p) for p in (1.0, 0.5, 0.49, 0.1, 0.01, 0.001, 0.0009, 0.0)]
    assert len({*styles}) == 5
    assert styles[-1] == styles[-2]
    legend = probability_legend()
    assert [str(span.style) for span in legend.spans] == [*dict.fromkeys(styles)]
    assert legend.plain.endswith("less  probability")


def test_colour_is_for_terminals_that_have_it():
    assert has_colour(console())
    assert not has_colour(console(None))
    assert not has_colour(console(no_color=True))


@pytest.mark.parametrize("width", [12, 20, 40, 44])
def test_numbers_stay_whole_where_columns_do_not_fit(width: int):
    heads = ("", "loss before", "after", "perplexity before", "after")
    table = Table([("training text", "3.493", "0.003", "32.90", "1.00")], "lrrrr", heads=heads)
    lines = lines_of(columns_or_lines(table), width=width)
    assert all(cell_len(line) <= width for line in lines)
    said = " ".join(" ".join(lines).split())
    expected = "training text loss before: 3.493 after: 0.003 perplexity before: 32.90 after: 1.00"
    assert said == expected
    assert lines_of(columns_or_lines(table), width=80) == lines_of(table, width=80)
    assert lines_of(columns_or_lines(table), width=None) == lines_of(table, width=None)


@pytest.mark.parametrize("width", [1, 8, 33])
@pytest.mark.parametrize("share", [-1.0, 0.0, 0.001, 0.5, 0.999, 1.0, 7.0])
def test_a_bar_is_as_long_as_its_share(share, width):
    drawn = bar(share, width=width)
    clipped = min(max(share, 0.0), 1.0)
    eighths = sum(8 if c == "█" else " ▏▎▍▌▋▊▉".index(c) for c in drawn)
    assert abs(eighths / 8 - clipped * width) <= 1 / 16
    assert cell_len(drawn) <= width
