"""Losses as they are logged -> a notice, once a run, that it gets worse on held-out text.

While training loss falls and held-out loss rises, a model memorizes. Both go to and fro, so that
neither a single evaluation nor a small rise counts.
"""

from collections.abc import Callable, Sequence
from math import isfinite, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.console import Notify
from gptft.runs.held_out import RISEN
from gptft.runs.read import Point, curve_of

_LAST = 3  # evaluations that are taken together: the last ones, and those around the lowest
# Deviations of such a mean that a rise must exceed. The lowest of many is low by chance, and each
# evaluation is another look: of 500 flat curves of 40 evaluations 6 are taken for a turn.
_SURE = 6.0
_FEW = 4.0  # as many times more, divided by how many differences the noise is known from


class Turn(NamedTuple):
    """Where held-out loss was lowest, and what has become of both losses since.

    Attributes:
        step: of the lowest held-out loss.
        lowest: held-out loss there.
        now: the mean of the last evaluations.
        training_before: the mean training loss up to that step, over as many steps as came since.
        training_now: the mean since.
    """

    step: int
    lowest: float
    now: float
    training_before: float
    training_now: float


def turn_of(held_out: Sequence[Point], training: Sequence[Point]) -> Turn | None:
    """Where a run turned from learning to memorizing; None where that can't be said.

    The mean of the last three held-out losses must be above the lowest mean of three, which doesn't
    overlap with it, by 2 % and by what the noise of the curve explains, told by its second
    differences; and training loss must have fallen on average since.

    Args:
        held_out: evaluations so far, by ascending step.
        training: losses that were logged so far.
    """
    losses = [loss for _, loss in held_out]
    means = [fmean(losses[k : k + _LAST]) for k in range(len(losses) - _LAST + 1)]
    if len(means) <= _LAST or not all(map(isfinite, losses)):
        return None
    lowest, now = min(means[:-_LAST]), means[-1]
    bends = [a - 2 * b + c for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    # A second difference of independent noise has 6 times its variance.
    noise = sqrt(fmean(bend**2 for bend in bends) / 6 / _LAST)
    sure = max((RISEN - 1) * lowest, _SURE * (1 + _FEW / len(bends)) * noise)
    if now - lowest <= sure or min(means) < lowest or min(losses[-_LAST:]) <= lowest:
        return None
    step, best = min(held_out, key=lambda point: point[1])
    since = held_out[-1][0] - step
    before = [loss for at, loss in training if step - since < at <= step]
    after = [loss for at, loss in training if at > step]
    if not before or not after or not fmean(after) < fmean(before):
        return None
    return Turn(step, best, now, fmean(before), fmean(after))


class SayTurn(TrainerCallback):
    """Says once a run that it turned, and how to go back."""

    def __init__(
        self, notify: Notify, *, checkpoints: Path, was_said: bool, said: Callable[[], None]
    ) -> None:
        """Tell `notify`, unless it `was_said`, and `said` that it is."""
        self._notify, self._checkpoints = notify, checkpoints
        self._is_said, self._said = was_said, said

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the losses so far."""
        if self._is_said or not state.is_world_process_zero:
            return
        held_out, training = (curve_of(state.log_history, key) for key in ("eval_loss", "loss"))
        if turn := turn_of(held_out, training):
            self._is_said = True
            self._said()
            self._notify(f"{_words(turn)} {_way_back(turn, args, self._checkpoints)}")


def _words(turn: Turn) -> str:
    return (
        f"Held-out loss was lowest at step {turn.step:,}, {turn.lowest:.3f}, and is {turn.now:.3f} "
        f"on average now, while training loss fell from {turn.training_before:.3f} to "
        f"{turn.training_now:.3f}: the model memorizes its training text."
    )


def _way_back(turn: Turn, args: TrainingArguments, folder: Path) -> str:
    if args.load_best_model_at_end:
        return "The best step's model is kept at the end (training.load_best_model_at_end)."
    keep = "training.load_best_model_at_end: true"
    checkpoint = folder / f"checkpoint-{turn.step}"
    if turn.step and checkpoint.is_dir():
        return (
            f"{checkpoint} holds the model of that step. To go back to it, stop this run, delete "
            "the checkpoints after it and --resume with other settings (--allow-change). In "
            f"another run {keep} does so by itself."
        )
    return f"No checkpoint of that step was saved; in another run {keep} keeps the best one."
