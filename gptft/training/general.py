"""Texts that a run isn't trained on -> how well the model predicts them, before and after."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.console import Notify, stage
from gptft.errors import GptftError
from gptft.runs.read import BeforeAfter, as_mapping
from gptft.training.evaluation import Measured
from gptft.training.figures import as_facts, before_and_after, read_figure

# A model in eval mode and its tokenizer -> the figures of each general text, by its language.
Measurer = Callable[[PreTrainedModel, PreTrainedTokenizerBase], Mapping[str, Measured]]


class GeneralTexts:
    """Measures the general texts, and keeps what was measured before training."""

    def __init__(
        self, measurer: Measurer | None, tokenizer: PreTrainedTokenizerBase, notify: Notify
    ) -> None:
        """Measure by `measurer`; nothing where there is none."""
        self._measurer, self._tokenizer, self._notify = measurer, tokenizer, notify
        self._before: Mapping[str, Measured] = {}

    def measure(self, model: PreTrainedModel) -> Mapping[str, Measured]:
        """The figures by language; training's random state and mode are left as they were.

        A model that can't be measured so is no reason to end its training: a line says why.
        """
        if self._measurer is None:
            return {}
        was_training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        try:
            with stage("Measuring general texts"), torch.random.fork_rng(devices=devices):
                return self._measurer(model.eval(), self._tokenizer)
        except (GptftError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            self._notify(f"General texts can't be measured with this model: {error}")
            return {}
        finally:
            model.train(was_training)

    def begin(self, model: PreTrainedModel) -> None:
        """Measure the model before training."""
        self._before = self.measure(model)

    def resume(self, before: Mapping[str, Any], model: PreTrainedModel) -> None:
        """Take up what was measured before training, or measure where it wasn't.

        Args:
            before: of run.json.
            model: as it was before training.
        """
        kept = as_mapping(before.get("general"))
        if kept or self._measurer is None:
            self._before = {name: read_figure(figure) for name, figure in kept.items()}
        else:
            self.begin(model)

    def as_facts(self) -> dict[str, Any]:
        """What was measured before training, for run.json."""
        return {name: as_facts(figure) for name, figure in self._before.items()}

    def finish(self, model: PreTrainedModel) -> dict[str, BeforeAfter]:
        """Measure the model after training, and compare; what is measured once is left out."""
        after = self.measure(model) if self._before else {}
        both = [name for name in self._before if name in after]
        return {name: before_and_after(self._before[name], after[name]) for name in both}
