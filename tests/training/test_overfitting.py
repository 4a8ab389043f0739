"""A run that memorizes says so once, while it trains, and how to go back."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from gptft.training.overfitting import Turn, turn_of
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, rows

Points = list[tuple[int, float]]


def noisy(values: list[float], *, noise: float, seed: int) -> Points:
    """Values at steps 10, 20, ..., each off by a normal deviate."""
    draw = np.random.default_rng(seed)
    off = draw.normal(0, noise, len(values))
    return [(10 * (k + 1), value + float(by)) for k, (value, by) in enumerate(zip(values, off))]  # noqa: B905


def first_turn(held_out: Points, training: Points) -> tuple[int, Turn] | None:
    """After which evaluation a run would have been told, and what."""
    for number in range(1, len(held_out) + 1):
        step = held_out[number - 1][0]
        turn = turn_of(held_out[:number], [one for one in training if one[0] <= step])
        if turn:
            return step, turn
    return None


FALLING = [4.0 - 0.05 * k for k in range(40)]
SLOWING = [2.5 + math.exp(-k / 8) for k in range(40)]
FLAT = [3.0] * 40
# Lowest at the 13th evaluation, then up by as much as 0.6.
MEMORIZING = [3.0 + (0.6 * ((k - 12) / 27) if k > 12 else 0.5 * ((12 - k) / 12) ** 2)
              for k in range(40)]  # fmt: skip


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("held_out", [FALLING, SLOWING, FLAT], ids=["falling", "slow", "flat"])
def test_noise_alone_is_no_turn(held_out: list[float], noise: float):
    told = [
        first_turn(noisy(held_out, noise=noise, seed=seed), noisy(FALLING, noise=0.05, seed=seed))
        for seed in range(80)
    ]
    assert sum(one is not None for one in told) <= 2


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_a_run_that_memorizes_is_told_in_time(noise: float):
    for seed in range(40):
        found = first_turn(
            noisy(MEMORIZING, noise=noise, seed=seed), noisy(FALLING, noise=0.05, seed=seed)
        )
        assert found is not None
        step, turn = found
        assert 150 < step <= 330  # of 400; the rise begins at 130
        assert abs(turn.step - 130) <= 60
        assert turn.now > turn.lowest * 1.02
        assert turn.training_now < turn.training_before


def test_a_run_that_diverges_is_told_something_else():
    rising = [3.0 + 0.05 * k for k in range(40)]
    assert first_turn(noisy(MEMORIZING, noise=0.01, seed=1), noisy(rising, noise=0, seed=1)) is None


def test_a_loss_that_is_no_number_is_no_turn():
    held_out = noisy(MEMORIZING, noise=0, seed=1)
    held_out[-1] = (400, math.nan)
    assert turn_of(held_out, noisy(FALLING, noise=0, seed=1)) is None
    assert turn_of([], []) is None


TRAINING = {
    "max_steps": 24, "learning_rate": 0.02, "lr_scheduler_type": "constant",
    "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
}  # fmt: skip
HELD_OUT = {"data": {"validation": 0.3}}
SAID = "the model memorizes its training text."


def notices(said: list[str]) -> list[str]:
    return [one for one in said if SAID in one]


@pytest.mark.parametrize("keeps_best", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_said_once_with_the_step_and_the_way_back(run: Run, tmp_path: Path, keeps_best: bool):
    said: list[str] = []
    training = {**TRAINING, "load_best_model_at_end": keeps_best}
    result = run(training=training, **HELD_OUT, notify=said.append)
    (notice,) = notices(said)
    losses: Points = [
        (row["step"], row["eval_loss"])
        for row in rows(result.run_dir / "metrics.jsonl")
        if "eval_loss" in row
    ]
    best = min(losses, key=lambda one: one[1])[0]
    assert notice.startswith(f"Held-out loss was lowest at step {best}, ")
    folder = result.run_dir / "checkpoints" / f"checkpoint-{best}"
    if keeps_best:
        assert "is kept at the end (training.load_best_model_at_end)" in notice
        return
    assert f"{folder} holds the model of that step" in notice


@pytest.mark.slow
def test_the_way_back_that_it_names_leads_there(run: Run, tmp_path: Path):
    """The later checkpoints deleted, and other settings."""
    said: list[str] = []
    run(training=TRAINING, **HELD_OUT, notify=said.append)
    best = int(notices(said)[0].partition("lowest at step ")[2].partition(",")[0])
    folder = tmp_path / "run" / "checkpoints"
    for path in folder.iterdir():
        if int(path.name.removeprefix("checkpoint-")) > best:
            shutil.rmtree(path)
    again: list[str] = []
    slower = {**TRAINING, "learning_rate": 1e-4}
    allowed = Resume(allow=("learning_rate",))
    run(training=slower, **HELD_OUT, resume=allowed, notify=again.append)
    assert any(f"Resuming from step {best:,}" in one for one in again)


@pytest.mark.slow
def test_a_run_that_is_resumed_says_it_no_second_time(run: Run, tmp_path: Path):
    first: list[str] = []
    with Cut(after=22):
        run(training=TRAINING, **HELD_OUT, notify=first.append)
    then: list[str] = []
    run(training=TRAINING, **HELD_OUT, resume=Resume(), notify=then.append)
    assert (len(notices(first)), len(notices(then))) == (1, 0)
