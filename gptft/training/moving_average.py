"""The weights in training -> their exponential moving average, kept beside them in float32.

Late in training the weights go to and fro around a point that is better than any of them; the
average is near it, at any learning rate.

Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the
warm-up of the decay is that of TensorFlow's `ExponentialMovingAverage` (`num_updates`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gptft.errors import RunError
from gptft.panics import no_panic

# In a checkpoint, in a folder of its own: every safetensors file beside model.safetensors would be
# taken for a part of the model.
FILE = Path("moving_average") / "weights.safetensors"


def decay_of(step: int, decay: float) -> float:
    """How much of the average stays at a step: short memory at first, as long as asked later.

    Args:
        step: optimizer steps behind it, this one among them.
        decay: the setting.

    >>> [round(decay_of(step, 0.99), 3) for step in (1, 10, 100, 1000)]
    [0.182, 0.55, 0.918, 0.99]
    """
    return min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """The average of the weights that are trained, and which of the two the model holds.

    It begins as a copy of the weights when training begins; each step s then makes
    average = d * average + (1 - d) * weights of it, with d as `decay_of` has it.

    Attributes:
        decay: the setting.
        is_kept: whether the average becomes the model of the run, and not the raw weights.
    """

    def __init__(self, model: PreTrainedModel, *, decay: float, is_kept: bool) -> None:
        """Average the parameters of `model` that are trained, tied ones once."""
        self.decay, self.is_kept = decay, is_kept
        self._weights: dict[str, torch.Tensor] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._means: dict[str, torch.Tensor] | None = None
        self._raw: list[torch.Tensor] | None = None  # while the model holds the average

    @property
    def num_bytes(self) -> int:
        """What it takes in a checkpoint."""
        return sum(4 * weight.numel() for weight in self._weights.values())

    def begin(self) -> None:
        """Begin with the weights as they are, unless a checkpoint's average was loaded."""
        if self._means is None:
            self._means = {
                name: weight.detach().to(torch.float32, copy=True)
                for name, weight in self._weights.items()
            }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights behind optimizer step `step`, from 1."""
        self.begin()
        means = self._means or {}
        # On the device, all tensors in a few kernels; float32 weights aren't copied by `float`.
        torch._foreach_lerp_(
            [*means.values()],
            [weight.detach().float() for weight in self._weights.values()],
            1 - decay_of(step, self.decay),
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model holds the average; before training, what it is."""
        if self._means is None or self._raw is not None:
            yield
            return
        self.apply()
        try:
            yield
        finally:
            self._undo()

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Within it the model holds the raw weights."""
        was_applied = self._raw is not None
        self._undo()
        try:
            yield
        finally:
            if was_applied:
                self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model, and the raw weights aside."""
        if self._means is None or self._raw is not None:
            return
        self._raw = [weight.detach().clone() for weight in self._weights.values()]
        for name, weight in self._weights.items():
            weight.copy_(self._means[name])

    @torch.no_grad()
    def _undo(self) -> None:
        raw, self._raw = self._raw, None
        for weight, kept in zip(self._weights.values(), raw or (), strict=raw is not None):
            weight.copy_(kept)

    def save(self, checkpoint: Path) -> None:
        """Write it into a checkpoint's folder, by the names of the parameters."""
        self.begin()
        path = checkpoint / FILE
        path.parent.mkdir()
        save_file({name: mean.contiguous() for name, mean in (self._means or {}).items()}, path)

    def load(self, checkpoint: Path) -> None:
        """Take up what `save` wrote; where there is nothing, it begins with the weights there.

        Raises:
            RunError: it is the average of other weights.
        """
        path = checkpoint / FILE
        self._raw = self._means = None
        if not path.is_file():
            return
        try:
            with no_panic(f"{path} can't be read"):
                stored = load_file(path)
        except OSError as error:
            raise RunError(f"{path} can't be read: {error}") from None
        _require_same(stored, self._weights, path=path)
        self._means = {
            name: stored[name].to(weight.device, torch.float32)
            for name, weight in self._weights.items()
        }

    def release(self) -> None:
        """Give back the memory."""
        self._means = self._raw = None


def _require_same(
    stored: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor], *, path: Path
) -> None:
    here, there = ({name: one.shape for name, one in some.items()} for some in (ours, stored))
    if different := sorted({name for name, _ in here.items() ^ there.items()}):
        raise RunError(
            f"{path}: {len(different)} of its tensors aren't those of the weights in training, "
            f"{different[0]} for one. It is another run's."
        )


class UpdateAverage(TrainerCallback):
    """Updates the average after each optimizer step, before anything is measured or saved."""

    def __init__(self, average: MovingAverage) -> None:
        """Update `average`."""
        self._average = average

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with the base's weights, or go on from a checkpoint's."""
        self._average.begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take in the new weights."""
        self._average.update(state.global_step)
