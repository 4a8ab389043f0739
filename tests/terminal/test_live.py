"""A view at the bottom of a terminal: nothing of an earlier one stays, and all that was printed."""

import sys
import time
import warnings
from contextlib import suppress

import pytest
from rich.console import Console, Group
from rich.text import Text

from gptft.console import around_a_line, stage
from gptft.terminal.live import DRAWN_A_SECOND, LiveLines
from tests.terminal.screen import Screen


def view(*lines: str) -> Group:
    return Group(*map(Text, lines))


def terminal(width: int, height: int = 20) -> tuple[Screen, Console]:
    screen = Screen(width)
    made = Console(file=screen, force_terminal=True, width=width, height=height, highlight=False)
    return screen, made


def resize(screen: Screen, console: Console, width: int) -> None:
    screen.resize(width)
    console.width = width


def test_what_is_printed_stands_above_it_in_order():
    screen, console = terminal(30)
    with LiveLines(view("a 1", "b", "c"), console, leaves=True) as live:
        console.print("first")
        live.show(view("a 2", "b"))
        console.print("second")
        live.show(view("a 3", "b", "c", "d"))
    assert screen.lines() == ["first", "second", "a 3", "b", "c", "d"]
    assert screen.is_cursor_shown


def test_nothing_is_left_of_one_that_is_to_go():
    screen, console = terminal(30)
    with LiveLines(view("a", "b", "c"), console, leaves=False):
        console.print("first")
        assert screen.lines() == ["first", "a", "b", "c"]
        assert not screen.is_cursor_shown
    assert screen.lines() == ["first"]
    assert screen.is_cursor_shown


@pytest.mark.parametrize("ending", [ValueError, KeyboardInterrupt])
def test_the_terminal_is_given_back_whatever_ends_it(ending: type[BaseException]):
    screen, console = terminal(30)
    stderr = sys.stderr
    with suppress(ending), LiveLines(view("a"), console, leaves=True):
        assert sys.stderr is not stderr
        raise ending
    assert sys.stderr is stderr
    assert screen.is_cursor_shown
    assert around_a_line() == ("\r\x1b[2K", "\n")


@pytest.mark.parametrize("widths", [[30, 20, 80], [80, 7, 30], [80, 40, 20, 12], [30, 31, 3, 30]])
def test_a_terminal_may_become_narrower_and_wider(widths: list[int]):
    screen, console = terminal(widths[0])
    with LiveLines("", console, leaves=True) as live:
        console.print("first")
        for number, width in enumerate(widths):
            resize(screen, console, width)
            live.show(view(*(f"{number}{letter * (width - 1)}" for letter in "abc"), "end"))
            assert screen.lines()[-4:] == [
                *(f"{number}{letter * (width - 1)}" for letter in "abc"),
                "end"[: max(width - 2, 1)],
            ]
        console.print("second")
    joined = "".join(screen.lines())
    assert joined.startswith("firstsecond")
    assert [n for n in range(len(widths) - 1) if f"{n}a" in joined] == []


def test_a_signals_line_that_passes_all_buffers_stands_above_it():
    screen, console = terminal(30)
    with LiveLines(view("a", "b", "c"), console, leaves=True) as live:
        console.print("first")
        screen.write("^C")
        before, after = around_a_line()
        screen.write(f"{before}Stopping after this step.{after}")
        live.show(view("a 2", "b"))
        before, after = around_a_line()
        screen.write(f"{before}again{after}")
        live.show(view("a 3", "b"))
    assert screen.lines() == ["first", "Stopping after this step.", "again", "a 3", "b"]


def test_the_last_line_leaves_room_for_what_the_terminal_writes_at_ctrl_c():
    screen, console = terminal(10)
    with LiveLines(view("x" * 10, "y" * 10), console, leaves=True) as live:
        screen.write("^C")
        live.show(view("z", "z"))
    assert screen.lines() == ["z", "z"]


def test_warnings_and_stray_prints_stand_above_it():
    screen, console = terminal(60)
    with LiveLines(view("a", "b"), console, leaves=True):
        print(warnings.formatwarning("careful", UserWarning, "x.py", 1), end="", file=sys.stderr)
        print("stray", file=sys.stderr)
    assert screen.lines()[-2:] == ["a", "b"]
    assert "x.py:1: UserWarning: careful" in screen.lines()
    assert screen.lines().count("stray") == 1


def test_more_lines_than_the_terminal_has_are_cut_and_never_pile_up():
    screen, console = terminal(20, height=4)
    with LiveLines(view(*"abcdefgh"), console, leaves=True) as live:
        console.print("first")
        live.show(view(*"ABCDEFGH"))
    assert screen.lines() == ["first", "A", "B", "C"]


def test_a_stage_is_told_and_draws_no_line_of_its_own():
    told: list[str | None] = []
    screen, console = terminal(40)
    with LiveLines(view("a"), console, leaves=True, told=told.append):
        with stage("Reading"), stage("Writing") as name_anew:
            name_anew("Writing \x1b[2J more")
        assert told == ["Reading", "Writing", "Writing \\x1b[2J more", "Reading", None]
    with stage("Later"):
        pass
    assert told[-1] is None
    assert screen.lines() == ["a"]


class Counting:
    drawn = 0

    def __rich__(self) -> str:
        self.drawn += 1
        return "a"


def test_it_is_drawn_four_times_a_second_and_no_more():
    _, console = terminal(40)
    counting = Counting()
    begun = time.monotonic()
    with LiveLines(counting, console, leaves=True, told=lambda doing: None):
        time.sleep(0.8)
    took = time.monotonic() - begun
    assert 1 + 2 <= counting.drawn <= 3 + took * DRAWN_A_SECOND
