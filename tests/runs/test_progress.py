"""How far a run is, in lines of any width."""

import math
from typing import Any

import pytest
from rich.cells import cell_len

from gptft.runs.progress import Pace, RunProgress
from gptft.runs.progress_view import progress_lines
from gptft.terminal.plot import sparkline

EVIL = (
    "Мороз и \x1b[2J\x1b]0;x\x07солнце\r\n\t漢字漢字漢字 e\u0301\u202e 👩\u200d👩\u200d👧 \ud800"
    * 9
)


def progress(**fields: Any) -> RunProgress:
    made = RunProgress(
        step=12_345, num_steps=100_000, loss=3.175, held_out_loss=3.5, learning_rate=1e-4,
        grad_norm=0.8125, tokens_per_second=123_456.0, losses=[5.0, 4.0, 3.0],
        sample=(12_000, "Мороз", EVIL),
    )  # fmt: skip
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20, 21, 40, 59, 60, 61, 80, 200])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_steps": None},
        {"loss": math.nan, "held_out_loss": math.inf, "losses": [math.nan, math.inf, 1e300]},
        {"step": 98_765_432, "num_steps": 123_456_789, "tokens_per_second": 1e12},
        {"stage": "measuring held-out text", "doing": "漢字" * 99},
        {"is_over": True},
        {"step": 5, "num_steps": 0},
        {"losses": [1.0], "sample": (1, "", "")},
    ],
)
def test_no_line_is_wider_than_the_terminal_or_obeyed(width: int, fields: dict[str, Any]):
    for line in progress_lines(progress(**fields), width=width, seconds=3661.0):
        assert cell_len(line.plain) <= max(width, 2)  # a wide character can't be halved
        assert line.plain.isprintable()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_step_and_time_left_stand_first_whole(width: int):
    lines = [line.plain for line in progress_lines(progress(), width=width, seconds=3661.0)]
    first = "\n".join(lines[:2])
    assert "12,345/100,000" in first
    assert "left 1:01:01" in first


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_nothing_known_is_left_out(width: int):
    lines = progress_lines(progress(doing="sampling"), width=width, seconds=None)
    shown = "\n".join(line.plain for line in lines)
    wanted = (
        "loss 3.175", "held out 3.500", "lr 1.0e-04", "grad norm 0.812", "123,456 tokens/s",
        "sampling", "█▅▁ loss", "sample at 12,000: ", "left -:--:--",
    )  # fmt: skip
    assert [words for words in wanted if words not in shown] == []
    assert ("━" in shown) == (width >= 60)


def test_a_run_that_is_over_says_what_it_took_and_shows_no_sample():
    lines = progress_lines(progress(is_over=True), width=80, seconds=61.0)
    shown = "\n".join(line.plain for line in lines)
    assert "took 0:01:01" in shown
    assert "sample" not in shown


def test_a_log_is_taken_up_row_by_row():
    made = RunProgress()
    made.take_all(
        [
            {"loss": 4.0, "learning_rate": 1e-3, "grad_norm": 1.5, "tokens_per_second": 9.0},
            {"eval_loss": 3.75},
            {"loss": None},
            {"loss": 2.0, "step": 7},
        ]
    )
    assert (made.loss, made.held_out_loss, made.grad_norm) == (2.0, 3.75, 1.5)
    assert made.losses[::2] == [4.0, 2.0]
    assert math.isnan(made.losses[1])


def test_a_curve_of_a_million_log_steps_stays_short_and_true():
    made = RunProgress()
    made.take_all({"loss": 10.0 - n / 10_000} for n in range(100_000))
    assert 100 < len(made.losses) <= 512
    joined = 100_000 // len(made.losses)
    assert made.losses[0] == pytest.approx(10.0 - (joined - 1) / 20_000, abs=0.01)
    assert made.losses == sorted(made.losses, reverse=True)
    assert sparkline(made.losses, width=8) == "█▇▆▅▄▃▂▁"


def test_time_left_counts_what_stands_between_steps_and_not_the_first_one():
    pace = Pace(step=100)  # resumed
    assert pace.seconds_left(200, 30.0) is None
    pace.see(101, 50.0)  # the first step compiles
    assert pace.seconds_left(200, 50.0) is None
    pace.see(102, 51.0)
    pace.see(111, 70.0)  # an evaluation in between
    assert pace.seconds_left(200, 70.0) == pytest.approx(2.0 * 89)
    assert pace.seconds_left(200, 80.0) == pytest.approx(2.0 * 89 - 10)
    assert pace.seconds_left(None, 80.0) is None
