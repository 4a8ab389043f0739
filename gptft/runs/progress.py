"""What is known of a run at work -> the figures of its live view, and how long it will still take.

One model for `gptft train`, which fills it as it trains, and for `gptft runs show --follow`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from gptft.runs.read import as_float

TRAINING = "training"  # the stage of a run that makes steps
_MOST_LOSSES = 512  # of the curve that is kept; more are joined in pairs

# By its name in metrics.jsonl, a figure of a log step: its field here.
_FIELDS = {
    "loss": "loss",
    "eval_loss": "held_out_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_second": "tokens_per_second",
}


@dataclass
class RunProgress:
    """How far a run is.

    Attributes:
        stage: what the run is at, in a few words.
        doing: what is done meanwhile, such as continuing prompts; None for nothing else.
        step: optimizer updates so far.
        num_steps: those of the whole run; None where they aren't known.
        loss: the last training loss logged, in nats a token.
        held_out_loss: the last one measured while training, in nats a token.
        learning_rate: of the last log step.
        grad_norm: the norm of the gradient before clipping, at the last log step.
        tokens_per_second: of all processes together, since the log step before.
        losses: training losses in order, of a long run means of several.
        sample: the step, the prompt and the continuation of the last sample.
        is_over: whether training has ended.
    """

    stage: str = TRAINING
    doing: str | None = None
    step: int = 0
    num_steps: int | None = None
    loss: float | None = None
    held_out_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    losses: list[float] = field(default_factory=list)
    sample: tuple[int, str, str] | None = None
    is_over: bool = False
    _joined: int = 1  # how many losses each of `losses` is the mean of
    _waiting: list[float] = field(default_factory=list)

    def take(self, row: Mapping[str, Any]) -> None:
        """Take up a row of the log; what isn't a finite number is nan."""
        for name, attribute in _FIELDS.items():
            if name in row:
                value = as_float(row[name])
                setattr(self, attribute, math.nan if value is None else value)
        if "loss" in row and self.loss is not None:
            self._keep(self.loss)

    def take_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up the rows of an earlier log, in order."""
        for row in rows:
            self.take(row)

    def _keep(self, loss: float) -> None:
        self._waiting.append(loss)
        if len(self._waiting) < self._joined:
            return
        self.losses.append(math.fsum(self._waiting) / len(self._waiting))
        self._waiting.clear()
        if len(self.losses) >= _MOST_LOSSES:
            self.losses = [(a + b) / 2 for a, b in [*pairwise(self.losses)][::2]]
            self._joined *= 2


class Pace:
    """Steps at moments -> the seconds that the rest takes, at the mean pace of this process.

    What evaluations, samples and checkpoints take is in it.
    """

    def __init__(self, *, step: int) -> None:
        """Begin at a step."""
        self._begun = step
        self._first = self._last = (step, 0.0)

    def see(self, step: int, seconds: float) -> None:
        """The step at a moment of any clock; the first one, which warms up, counts for nothing."""
        if step == self._last[0]:
            return
        self._last = (step, seconds)
        if self._first[0] == self._begun:
            self._first = self._last

    def seconds_left(self, num_steps: int | None, seconds: float) -> float | None:
        """What is left at a moment of that clock; None where it isn't known yet.

        >>> pace = Pace(step=0)
        >>> for step, second in ((1, 9.0), (2, 10.0), (5, 13.0)):
        ...     pace.see(step, second)
        >>> pace.seconds_left(105, 13.0), pace.seconds_left(105, 13.5), pace.seconds_left(5, 13.5)
        (100.0, 99.5, 0.0)
        """
        done = self._last[0] - self._first[0]
        if num_steps is None or done <= 0:
            return None
        each = (self._last[1] - self._first[1]) / done
        return max(each * (num_steps - self._last[0]) - (seconds - self._last[1]), 0.0)
