"""Held-out losses as they were logged and measured -> one curve, and its lowest point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptft.runs.read import BeforeAfter, Point

# Times the lowest loss: below it a rise may be the noise of a small held-out part.
RISEN = 1.02


@dataclass(frozen=True)
class BestStep:
    """Where held-out loss was lowest.

    Attributes:
        step: 0 is before training.
        loss: in nats a predicted token.
        checkpoint: that holds the weights of this step, as a path within the run; None where none
            was kept.
    """

    step: int
    loss: float
    checkpoint: str | None


def held_out_curve(
    logged: Sequence[Point], measured: BeforeAfter | None, *, model_step: int | None
) -> list[Point]:
    """Held-out loss by step: what was logged, and what was measured before and after training.

    Args:
        logged: by evaluations while training.
        measured: before and after.
        model_step: the step of the model that was measured after; None where it isn't known.
    """
    points = dict(logged)
    if measured is not None:
        if measured.loss_before is not None:
            points.setdefault(0, measured.loss_before)
        if model_step is not None and measured.loss_after is not None:
            points[model_step] = measured.loss_after  # a mean of checkpoints is in no log
    return sorted(points.items())


def best_step(
    curve: Sequence[Point], *, run_dir: Path, not_stored: int | None = None
) -> BestStep | None:
    """The lowest point of a curve, the first of equal ones; None where no loss is finite.

    Args:
        curve: held-out loss by step.
        run_dir: of the run, whose checkpoint of the step is named if there is one.
        not_stored: a step whose loss is a mean's of several checkpoints, which is in none.
    """
    if (point := lowest(curve)) is None:
        return None
    step, loss = point
    name = f"checkpoints/checkpoint-{step}"
    return BestStep(step, loss, name if (run_dir / name).is_dir() and step != not_stored else None)


def lowest(curve: Sequence[Point]) -> Point | None:
    """The lowest point of a curve, the first of equal ones; None where no value is finite."""
    finite = [point for point in curve if math.isfinite(point[1])]
    return min(finite, key=lambda point: point[1]) if finite else None
