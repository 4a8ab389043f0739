"""Held-out losses as they are measured -> an early end of training, where they fall no more.

How many evaluations have brought nothing is counted from the log in the trainer's state, which is
in every checkpoint: a run that is resumed counts as if it had not been interrupted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.runs.held_out import lowest
from gptft.terminal.words import count

Losses = Sequence[tuple[int, float]]  # steps and losses


def without_improvement(losses: Losses, *, threshold: float = 0.0) -> int:
    """How many evaluations, the last among them, have not lowered the loss by enough.

    Counts as transformers' `EarlyStoppingCallback` (5.23) does: against the lowest loss before,
    which a small improvement lowers as well.

    Args:
        losses: of the evaluations so far; one before the first step doesn't count.
        threshold: what a loss must be below the lowest one by more than.

    >>> without_improvement([(1, 3.0), (2, 2.5), (3, 2.45), (4, 2.6)], threshold=0.1)
    2
    """
    best, bad = None, 0
    for step, loss in losses:
        if step > 0:
            bad = 0 if best is None or best - loss > threshold else bad + 1
            known = math.inf if best is None else best
            best = loss if loss < known else known
    return bad


@dataclass(frozen=True)
class EarlyStopping:
    """When to end.

    Attributes:
        patience: evaluations without improvement that end training.
        threshold: see `without_improvement`.
    """

    patience: int
    threshold: float = 0.0

    def is_due(self, losses: Losses) -> bool:
        """Whether training is to end after these evaluations."""
        return without_improvement(losses, threshold=self.threshold) >= self.patience

    def words(self, losses: Losses) -> str:
        """Why training ended, and where the loss was lowest, in sentences."""
        by = f" by more than {self.threshold:g}" if self.threshold else ""
        evaluations = count(without_improvement(losses, threshold=self.threshold), "evaluation")
        point = lowest([one for one in losses if one[0] > 0])
        best = "" if point is None else f" It was lowest at step {point[0]:,}, {point[1]:.3f}."
        return f"held-out loss has not fallen{by} for {evaluations}.{best}"


class StopEarly(TrainerCallback):
    """Ends training after an evaluation, and has the checkpoint of its step saved."""

    def __init__(self, is_due: Callable[[], bool]) -> None:
        """End where `is_due` says so of the evaluations so far."""
        self._is_due = is_due

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the losses so far; at the last step there is nothing to end."""
        if 0 < state.global_step < state.max_steps and self._is_due():
            control.should_training_stop = True
            if args.save_strategy in ("steps", "epoch"):
                control.should_save = True
