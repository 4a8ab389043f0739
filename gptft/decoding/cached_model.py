"""A causal model, its cache, and the mask and positions of what it has read: tokens -> output."""

import inspect
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from gptft.errors import ModelError
from gptft.models.load import context_of

# What models call their cache, where it is one of keys and values, or Mamba's.
CACHE_NAMES = ("past_key_values", "cache_params")


@dataclass
class CachedModel:
    """A causal model that is fed only the tokens it hasn't read yet.

    Attributes:
        model: in eval mode.
        accepted: names of the arguments it takes.
        cache: keys and values of what it has read; None where transformers can make none.
        attention_mask: of what it has read, shape (B, T), 0 for padding; None if nothing is padded.
        position: of the last token read, shape (B, 1); None before the first, and for a model that
            takes no positions.
        is_empty: nothing is cached yet.
    """

    model: PreTrainedModel
    accepted: Collection[str]
    cache: Cache | None
    attention_mask: Tensor | None = None
    position: Tensor | None = None
    is_empty: bool = True

    @classmethod
    def of(cls, model: PreTrainedModel, cache: Cache | None = None) -> "CachedModel":
        """A model that has read nothing, with an empty cache of its own unless one is given."""
        accepted = inspect.signature(model.forward).parameters.keys()
        return cls(model, accepted, new_cache(model) if cache is None else cache)

    @property
    def cache_name(self) -> str | None:
        """The argument that takes the cache; None where the model has another kind of memory."""
        model: Any = self.model
        # A model that doesn't name the argument swallows it in **kwargs, without effect.
        named = (name for name in CACHE_NAMES if name in self.accepted)
        can = self.cache is not None and model._supports_default_dynamic_cache()
        return next(named, None) if can else None

    @torch.no_grad()
    def feed(
        self,
        token_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        is_last: bool = False,
        **model_kwargs: Any,
    ) -> Any:
        """Read the next tokens.

        Args:
            token_ids: shape (B, T).
            attention_mask: shape (B, T), 0 for padding; None if none of them is padding.
            is_last: nothing will be fed after them, so nothing new needs to be cached.
            model_kwargs: further arguments of the model.

        Returns:
            the model's output.

        Raises:
            ModelError: they are to be cached, and the model has another kind of memory (RWKV), or
                reads only one token at a time behind what is cached (Mamba).
        """
        seen = torch.ones_like(token_ids) if attention_mask is None else attention_mask  # (B, T)
        if attention_mask is not None or self.attention_mask is not None:
            before = [] if self.attention_mask is None else [self.attention_mask]
            self.attention_mask = torch.cat([*before, seen], dim=1)
            model_kwargs["attention_mask"] = self.attention_mask
        if "position_ids" in self.accepted:
            start = -1 if self.position is None else self.position
            positions = start + seen.long().cumsum(dim=1)  # -1 for padding on the left
            self.position = positions[:, -1:]
            model_kwargs["position_ids"] = positions.clamp(min=0)
        # Not the cache's own length: a cache of linear attention has none (transformers 5.23).
        is_cached = not (is_last and self.is_empty)
        if is_cached:
            name = self.cache_name
            # Mamba's state is off by per cents after several tokens at once (transformers 5.23).
            one_by_one = name == "cache_params" and not self.is_empty
            if name is None or (one_by_one and token_ids.shape[1] > 1):
                raise ModelError(
                    f"{type(self.model).__name__} keeps no keys and values, so a text can't be "
                    "continued from its cache. Take another strategy."
                )
            model_kwargs[name] = self.cache
            self.is_empty = False
        return self.model(input_ids=token_ids, use_cache=is_cached, **model_kwargs)

    def next_logits(self, token_ids: Tensor, **feed_kwargs: Any) -> Tensor:
        """Feed tokens (B, T): float32 logits (B, V) of the token after the last of them."""
        logits: Tensor = self.feed(token_ids, **feed_kwargs).logits[:, -1]
        return logits.to(device=token_ids.device, dtype=torch.float32)

    @property
    def positions_left(self) -> float:
        """Tokens that still have a position in the longest text; infinite without a limit."""
        context = context_of(self.model)
        if context is None or self.position is None:
            return math.inf
        return context - 1 - int(self.position.max())

    def select_rows(self, rows: Tensor) -> None:
        """Make row rows[i] row i; a row may be named several times or not at all."""
        # The one way to select rows that every kind of cache has, and the fastest.
        if self.cache is not None:
            self.cache.reorder_cache(cast(torch.LongTensor, rows))
        if self.attention_mask is not None:
            self.attention_mask = self.attention_mask[rows]
        if self.position is not None:
            self.position = self.position[rows]

    def crop(self, num_tokens: int) -> None:
        """Forget the last tokens of each row."""
        if self.cache is not None:
            self.cache.crop(-num_tokens)
        if self.attention_mask is not None:
            length = self.attention_mask.shape[1] - num_tokens
            self.attention_mask = self.attention_mask[:, :length]
        if self.position is not None:
            self.position = self.position - num_tokens


def new_cache(model: PreTrainedModel) -> DynamicCache | None:
    """An empty cache of keys and values; None where transformers can't make one for a model.

    It asks the config for its number of layers, and that of BLT has several (5.23).
    """
    try:
        return DynamicCache(config=model.config)
    except AttributeError:
        return None
