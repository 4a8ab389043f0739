"""What every loop needs: the arguments that `generate` calls it with, and texts as they grow."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from gptft.decoding.cached_model import CACHE_NAMES, CachedModel
from gptft.decoding.logprobs import check_some_left

Own = ParamSpec("Own")  # the settings of one loop


@dataclass(frozen=True)
class LoopInputs:
    """What `generate` hands to a loop, which is to return ids (B, T + new tokens).

    Attributes:
        model: a causal one.
        input_ids: prompts of shape (B, T), padded on the left; each of them W times for W beams.
        logits_processor: changes scores (B, V) that follow ids (B, T).
        stopping_criteria: of ids (B, T), and scores where there are any: which texts are finished.
        config: its pad_token_id fills up finished texts.
        prepared: attention_mask of shape (B, T), an empty cache by its name, logits_to_keep, each
            missing or None where there is none, and what else there is for the model.
    """

    model: PreTrainedModel
    input_ids: Tensor
    logits_processor: Callable[[Tensor, Tensor], Tensor]
    stopping_criteria: Callable[[Tensor, Any], Tensor]
    config: GenerationConfig
    prepared: Mapping[str, Any]

    @property
    def num_beams(self) -> int:
        """How often `generate` repeats each prompt."""
        return max(int(self.config.num_beams), int(self.config.num_return_sequences))

    @property
    def eos_ids(self) -> list[int]:
        """The ids that end a text, maybe none."""
        eos = self.config.eos_token_id
        return [] if eos is None else [eos] if isinstance(eos, int) else [int(i) for i in eos]

    @property
    def pad_id(self) -> int:
        """What a finished text is filled up with."""
        pad = self.config.pad_token_id
        return int(next(iter(self.eos_ids), 0) if pad is None else pad)

    def read_prompts(self, **model_kwargs: Any) -> tuple[CachedModel, Any]:
        """Feed the model the prompts: the model with what it has read, and its output.

        Raises:
            ModelError: the model has another kind of memory than keys and values.
        """
        if self.prepared.get("logits_to_keep") is not None:
            model_kwargs["logits_to_keep"] = self.prepared["logits_to_keep"]
        caches = (self.prepared[name] for name in CACHE_NAMES if name in self.prepared)
        cached = CachedModel.of(self.model, next(caches, None))
        mask = self.prepared.get("attention_mask")
        return cached, cached.feed(self.input_ids, attention_mask=mask, **model_kwargs)


def generation_loop(loop: Callable[Concatenate[LoopInputs, Own], Tensor]) -> Callable[..., Tensor]:
    """Make a loop of `LoopInputs` and its own settings one for `generate(custom_generate=...)`."""
    own = inspect.signature(loop).parameters.keys()

    # `generate` takes a loop's own arguments from the signature, which `wraps` hands through. It
    # must not show any of what is prepared: `generate` would hand an argument of that name to the
    # loop alone, and prepare another one in its place (transformers 5.23).
    @wraps(loop)
    def run(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Tensor:
        settings: dict[str, Any] = {name: kwargs.pop(name) for name in own & kwargs.keys()}
        inputs = LoopInputs(
            model, input_ids, logits_processor, stopping_criteria, generation_config, kwargs
        )
        return loop(inputs, **settings)  # type: ignore[call-arg]

    return run


class Sequences:
    """A batch of texts that grows by one token a step; a finished text grows by padding.

    Attributes:
        ids: shape (B, T), prompts included.
    """

    def __init__(self, inputs: LoopInputs, streamer: BaseStreamer | None = None) -> None:
        """Begin with the prompts; `streamer` is given the tokens of each step."""
        self.ids = inputs.input_ids
        self._inputs, self._streamer = inputs, streamer
        self._finished = torch.zeros_like(self.ids[:, 0], dtype=torch.bool)  # (B,)

    def append(self, tokens: Tensor, scores: Tensor) -> bool:
        """Append tokens (B,), chosen by scores (B, V); whether all texts are finished.

        Raises:
            ConfigError: no token was left to a text that isn't finished.
        """
        self.check_some_left(scores)
        tokens = tokens.masked_fill(self._finished, self._inputs.pad_id)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        if self._streamer is not None:
            self._streamer.put(tokens.cpu())
        self._finished = self._finished | self._inputs.stopping_criteria(self.ids, scores)
        return bool(self._finished.all())

    def check_some_left(self, scores: Tensor) -> None:
        """Refuse scores (B, V) that leave no token to a text that isn't finished.

        Raises:
            ConfigError: they do.
        """
        check_some_left((scores == -torch.inf).all(dim=-1), finished=self._finished)


@contextmanager
def growing_sequences(inputs: LoopInputs, streamer: BaseStreamer | None) -> Iterator[Sequences]:
    """The texts of a loop, from its prompts on.

    Whatever happens, the streamer is told of the end: who reads from it would wait forever.
    """
    try:
        if streamer is not None:
            streamer.put(inputs.input_ids.cpu())
        yield Sequences(inputs, streamer)
    finally:
        if streamer is not None:
            streamer.end()
