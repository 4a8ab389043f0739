"""What a run keeps as its model: the weights in training, their moving average, or a mean."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from gptft.training.checkpoint_mean import take_mean
from gptft.training.moving_average import MovingAverage
from gptft.training.trainer_adapter import TrainerAdapter


class KeptWeights:
    """Which weights are measured, sampled and saved, and what of them is in a checkpoint.

    Attributes:
        average: the moving average of the weights, or None.
        number: of how many of the last checkpoints the model is to be the mean; 0 for none.
    """

    def __init__(self, average: MovingAverage | None = None, *, number: int = 0) -> None:
        """Keep the average, or the mean of `number` checkpoints; without either what is trained."""
        self.average, self.number = average, number
        self._steps: list[int] = []

    @property
    def _is_average(self) -> bool:
        return self.average is not None and self.average.is_kept

    def held(self) -> AbstractContextManager[None]:
        """Within it the model holds the weights that the run keeps, as far as training goes."""
        return self.average.applied() if self.average and self._is_average else nullcontext()

    def raw(self) -> AbstractContextManager[None]:
        """Within it the model holds the weights in training."""
        return nullcontext() if self.average is None else self.average.set_aside()

    @property
    def others(self) -> tuple[str, AbstractContextManager[None]] | None:
        """The weights that aren't kept: what to call them, and in what the model holds them."""
        if self.average is None:
            return None
        return ("raw", nullcontext()) if self._is_average else ("ema", self.average.applied())

    def take(self, trainer: TrainerAdapter) -> None:
        """Once training has ended: let the model be what the run keeps.

        Raises:
            RunError: a checkpoint that is to be averaged is damaged.
        """
        if self.average is not None and self._is_average:
            self.average.apply()
        if self.number:
            self._steps = take_mean(trainer, self.number)

    def as_result(self) -> dict[str, Any] | None:
        """How what is kept is a mean; None where it isn't."""
        if self._steps:
            return {"checkpoints": self._steps}
        return {"ema_decay": self.average.decay} if self.average and self._is_average else None

    @property
    def is_stored(self) -> bool:
        """Whether the checkpoint of the last step holds what is kept, and no mean of several."""
        return not self._steps

    @property
    def num_bytes(self) -> int:
        """What a checkpoint holds beside the weights in training."""
        return 0 if self.average is None else self.average.num_bytes

    def save(self, checkpoint: Path) -> None:
        """Write that."""
        if self.average is not None:
            self.average.save(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Take it up."""
        if self.average is not None:
            self.average.load(checkpoint)

    def release(self) -> None:
        """Give back the memory."""
        if self.average is not None:
            self.average.release()
