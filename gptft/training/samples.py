"""The same prompts, continued before, during and after training -> lines of samples.jsonl."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gptft.console import stage
from gptft.files import append_json_line

Sampler = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[str]], list[str]]


class Show(Protocol):
    """What shows samples."""

    def __call__(self, prompts: Sequence[str], texts: Sequence[str], *, step: int) -> None:
        """Show what the model of a step makes of prompts."""


class SampleWriter:
    """Continues the prompts with a model as it is now, and keeps them in samples.jsonl.

    Attributes:
        prompts: as the config has them.
    """

    def __init__(
        self,
        path: Path,
        *,
        sampler: Sampler,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
    ) -> None:
        """Write to `path` what `sampler` makes of `prompts`."""
        self._path = path
        self._sampler = sampler
        self._tokenizer = tokenizer
        self.prompts = prompts

    def sample(self, model: PreTrainedModel) -> list[str]:
        """Continue each prompt; training's random state and mode are left as they were.

        Returns:
            one continuation a prompt, without the prompt.
        """
        was_training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        with stage("Continuing the prompts of samples"), torch.random.fork_rng(devices=devices):
            texts = self._sampler(model.eval(), self._tokenizer, self.prompts)
        model.train(was_training)
        return texts

    def write(self, texts: Sequence[str], *, step: int) -> None:
        """Add what `sample` returned at `step` to the file."""
        for prompt, text in zip(self.prompts, texts, strict=True):
            append_json_line(self._path, {"step": step, "prompt": prompt, "continuation": text})


class SampleEvery(TrainerCallback):
    """Writes samples every so many steps."""

    def __init__(
        self,
        writer: SampleWriter,
        *,
        steps: int,
        weights: Callable[[], AbstractContextManager[None]] = nullcontext,
        show: Show,
    ) -> None:
        """Call `writer` every `steps` steps, within `weights`: with those that the run keeps.

        `show` gets the prompts, what came of them, and the step.
        """
        self._show = show
        self._writer = writer
        self._steps = steps
        self._weights = weights

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write samples when the step is due; the last step's are written after training."""
        due = state.global_step % self._steps == 0 and state.global_step < state.max_steps
        if due and state.is_world_process_zero:
            with self._weights():
                texts = self._writer.sample(kwargs["model"])
            self._writer.write(texts, step=state.global_step)
            self._show(self._writer.prompts, texts, step=state.global_step)
