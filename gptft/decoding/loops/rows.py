"""What the loops share: how rows of a batch go on, end, and are told to a streamer.

In: what transformers hands to a `custom_generate` callable. Out: the model's next output, rows
padded where they ended, tokens passed on. Knows no strategy.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from transformers import Cache, DynamicCache, GenerationConfig, PreTrainedModel

from gptft.errors import ModelError


class TokenStreamer(Protocol):
    """Takes ids as transformers feeds them to a streamer."""

    def put(self, value: torch.Tensor) -> None:
        """Take the ids of the prompts, shape (B, T), at first, then those of a step, shape (B,)."""

    def end(self) -> None:
        """No more will come."""


@dataclass
class Reader:
    """A causal model and what it has read so far.

    Attributes:
        model: reads.
        cache: keys and values of what was read, B rows.
        attention_mask: shape (B, tokens read), 0 where there is padding; None where there is none.
        position_ids: shape (B, 1), of the last token read; None for a model that takes none.
    """

    model: PreTrainedModel
    cache: Cache
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor | None

    def read(self, token_ids: torch.Tensor, **asked: Any) -> Any:
        """Read token ids (B, T) that follow, for the model's output; `asked` is handed to it."""
        num_tokens = token_ids.shape[1]
        if self.attention_mask is not None:
            ones = self.attention_mask.new_ones(len(token_ids), num_tokens)
            self.attention_mask = torch.cat([self.attention_mask, ones], dim=1)
            asked["attention_mask"] = self.attention_mask
        if self.position_ids is not None:
            ahead = torch.arange(1, num_tokens + 1, device=self.position_ids.device)
            asked["position_ids"] = self.position_ids + ahead
            self.position_ids = asked["position_ids"][:, -1:]
        return self.model(input_ids=token_ids, past_key_values=self.cache, use_cache=True, **asked)

    def choose(self, rows: torch.Tensor) -> None:
        """Go on with these rows, each as often as it is named."""
        # The one way to choose rows that every kind of cache has, and the fastest.
        self.cache.reorder_cache(cast(torch.LongTensor, rows))
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask[rows]
        if self.position_ids is not None:
            self.position_ids = self.position_ids[rows]


def read_prompt(
    model: PreTrainedModel, input_ids: torch.Tensor, prepared: Mapping[str, Any], **asked: Any
) -> tuple[Reader, Any]:
    """Have a model read left-padded prompts.

    A loop must not name any of `prepared` in its signature: `generate` hands an argument that a
    caller gave and a loop names to the loop alone, and prepares another one in its place.

    Args:
        model: a causal one.
        input_ids: shape (B, T).
        prepared: what `generate` prepares, each missing or None where there is none: attention_mask
            of shape (B, T), position_ids of shape (B, T), past_key_values, an empty cache, and
            logits_to_keep.
        asked: further arguments of the model.

    Returns:
        what reads on from there, and the model's output.

    Raises:
        ModelError: the model remembers in a way of its own, as Mamba does.
    """
    if prepared.get("past_key_values") is None and prepared.get("cache_params") is not None:
        raise ModelError(
            f"{type(model).__name__} keeps no keys and values, so this strategy can't go back or "
            "on with them. Take another one."
        )
    attention_mask, position_ids = prepared.get("attention_mask"), prepared.get("position_ids")
    if position_ids is None and "position_ids" in inspect.signature(model.forward).parameters:
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        position_ids = (seen.long().cumsum(dim=1) - 1).clamp(min=0)
    if position_ids is not None:
        asked["position_ids"] = position_ids = position_ids.expand(len(input_ids), -1)
    if attention_mask is not None:
        asked["attention_mask"] = attention_mask
    if prepared.get("logits_to_keep") is not None:
        asked["logits_to_keep"] = prepared["logits_to_keep"]
    cache = prepared.get("past_key_values")
    if cache is None:
        cache = DynamicCache(config=model.config)
    output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, **asked)
    last = None if position_ids is None else position_ids[:, -1:]
    return Reader(model, cache, attention_mask, last), output


def with_tokens(input_ids: torch.Tensor, tokens: torch.Tensor) -> torch.LongTensor:
    """Ids of shape (B, T) and the tokens that follow, shape (B,), as ids of shape (B, T + 1)."""
    return cast(torch.LongTensor, torch.cat([input_ids, tokens[:, None]], dim=1))


def pad_id(generation_config: GenerationConfig) -> int:
    """The id that rows are filled up with once they ended."""
    if generation_config.pad_token_id is not None:
        return int(generation_config.pad_token_id)
    eos = generation_config.eos_token_id
    return int(eos[0] if isinstance(eos, list) else eos or 0)


@contextmanager
def streaming(
    streamer: TokenStreamer | None, input_ids: torch.Tensor
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Tell a streamer, if there is one, of the prompts; yield what tells it of each step's tokens.

    Whatever happens, the streamer is told of the end: who reads from it would wait forever.
    """
    if streamer is None:
        yield lambda token_ids: None
        return
    try:
        streamer.put(input_ids.cpu())
        yield lambda token_ids: streamer.put(token_ids.cpu())
    finally:
        streamer.end()
