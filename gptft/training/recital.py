"""Passages of the training text -> what the model recites of them, before and after training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.console import stage
from gptft.data.recital import Passage, count_recited, lines_of
from gptft.runs.read import as_mapping
from gptft.runs.recital import Recital, RecitedText

# A model, its tokenizer, the ids of beginnings, how many tokens each may get -> what follows each.
Reciter = Callable[
    [PreTrainedModel, PreTrainedTokenizerBase, Sequence[Sequence[int]], Sequence[int]], list[str]
]


class Recitals:
    """Has the model recite, and keeps what it said before training."""

    def __init__(
        self,
        passages: Sequence[Passage],
        *,
        reciter: Reciter,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Recite `passages` by `reciter`; nothing where there is none."""
        self._passages, self._reciter, self._tokenizer = passages, reciter, tokenizer
        self._before: list[str] = []

    def recite(self, model: PreTrainedModel) -> list[str]:
        """What follows each beginning; training's random state and mode are left as they were."""
        if not self._passages:
            return []
        was_training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        prompts = [passage.prompt_ids for passage in self._passages]
        lengths = [passage.num_tokens for passage in self._passages]
        with stage("Reciting the text"), torch.random.fork_rng(devices=devices):
            texts = self._reciter(model.eval(), self._tokenizer, prompts, lengths)
        model.train(was_training)
        return texts

    def begin(self, model: PreTrainedModel) -> None:
        """Recite with the model before training."""
        self._before = self.recite(model)

    def resume(self, before: Mapping[str, Any], model: PreTrainedModel) -> None:
        """Take up what was recited before training, or recite again where it was something else.

        Args:
            before: what `as_facts` gave.
            model: as it was before training.
        """
        kept = [as_mapping(one) for one in before.get("recital") or ()]
        if [one.get("prompt") for one in kept] == [one.prompt for one in self._passages]:
            self._before = [str(one.get("text", "")) for one in kept]
        else:
            self.begin(model)

    def as_facts(self) -> list[dict[str, str]]:
        """What was recited before training, for run.json."""
        pairs = zip(self._passages, self._before, strict=False)
        return [{"prompt": passage.prompt, "text": text} for passage, text in pairs]

    def finish(self, model: PreTrainedModel) -> Recital | None:
        """Recite with the model after training, and compare; None where there is nothing to."""
        rows = zip(self._passages, self._before, self.recite(model), strict=True)
        texts = [
            RecitedText(
                prompt=passage.prompt,
                num_lines=len(lines_of(passage.text)),
                lines_before=count_recited(before, passage.text),
                lines_after=count_recited(after, passage.text),
                before=before,
                after=after,
            )
            for passage, before, after in rows
        ]
        return Recital(tuple(texts)) if texts else None
