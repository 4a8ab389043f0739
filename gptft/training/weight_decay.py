"""`training.weight_decay_end` -> a weight decay that moves from its first value to another."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


@dataclass(frozen=True)
class DecaySchedule:
    """How the weight decay moves over a run.

    Attributes:
        start: of the first step, training.weight_decay.
        end: of the last step.
        shape: `linear`, or `cosine`: half a period of it, flat at both ends.
    """

    start: float
    end: float
    shape: str = "linear"

    def at(self, step: int, *, of: int) -> float:
        """The weight decay of a step, counted from 0.

        >>> schedule = DecaySchedule(0.1, 0.0, "cosine")
        >>> [round(schedule.at(step, of=5), 4) for step in range(5)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0]
        """
        done = min(step / max(of - 1, 1), 1.0)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * done


def decay_schedule(training: Mapping[str, Any]) -> DecaySchedule | None:
    """What a `training` section asks for; None for a weight decay that stays."""
    if (end := training.get("weight_decay_end")) is None:
        return None
    start = float(training.get("weight_decay") or 0.0)
    return DecaySchedule(start, float(end), training.get("weight_decay_schedule") or "linear")


class MoveWeightDecay(TrainerCallback):
    """Sets the weight decay of each step, which is a function of the step alone."""

    def __init__(
        self, schedule: DecaySchedule, *, model: torch.nn.Module, decay_names: Collection[str]
    ) -> None:
        """Move it for the groups of the optimizer that hold parameters named in `decay_names`."""
        self._schedule = schedule
        # By what they hold and not by their value, which may begin at 0 for all.
        self._decaying = {
            id(weight) for name, weight in model.named_parameters() if name in set(decay_names)
        }

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set that of the step to come."""
        now = self._schedule.at(state.global_step, of=state.max_steps)
        for group in kwargs["optimizer"].param_groups:
            if any(id(weight) in self._decaying for weight in group["params"][:1]):
                group["weight_decay"] = now
