"""The logits of a second model, or of a second prompt, beside those of the main one.

They are compared with scores that nothing has changed yet: such processors come first in the list.
None may be used with beams or drafts: changed scores aren't those of a text, and can't be compared
between texts.
"""

import math

import torch
from transformers import PreTrainedModel

from gptft.decoding.cached_model import CachedModel
from gptft.decoding.limits import check_other_context, other_vocabulary
from gptft.decoding.special_tokens import num_embeddings
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of


class AuxiliaryLogits:
    """The logits of a model that continues prompts of its own with the tokens another one chose.

    It keeps the keys and values of what it has read, and is fed only what is new. Where the text so
    far doesn't continue the one before it starts anew, so that one serves many calls of `generate`,
    one after the other.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompt_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        name: str = "The other model",
    ) -> None:
        """Read nothing yet.

        Args:
            model: a causal one in eval mode; may be the main model itself.
            prompt_ids: shape (B, Tp), long, padded on the left.
            attention_mask: shape (B, Tp), 0 for padding.
            name: what messages call it, such as the setting it comes from.

        Raises:
            ConfigError: a prompt without a token, or padded on its right.
            ModelError: the prompt has ids that the model has no embedding for.
        """
        self.name = name
        self._model = model
        self._prompt_ids = prompt_ids.to(model.device)
        self._prompt_mask = attention_mask.to(model.device, torch.long)
        self._context = context_of(model)
        if not self._prompt_mask[:, -1:].any(dim=1).all():
            raise ConfigError(
                f"{name}: a prompt ends with padding, or has no token. Give it at least one, and "
                "pad on the left."
            )
        self._longest = int(self._prompt_mask.sum(dim=1).max())
        highest, num_ids = int(self._prompt_ids.max()), num_embeddings(model)
        if highest >= num_ids:
            raise ModelError(
                f"{name}: its prompt holds id {highest:,}, and it has {num_ids:,} embeddings. Use "
                "one with the main model's tokenizer."
            )
        self._cached = CachedModel.of(model)
        self._read: torch.Tensor | None = None  # generated ids in the cache, (R, n)

    def next_logits(self, input_ids: torch.Tensor, *, prompt_length: int) -> torch.Tensor:
        """The model's logits after its own prompt and the tokens generated so far.

        Args:
            input_ids: shape (R, T), the main model's prompts and what it generated. R is B, or a
                multiple of it: each prompt then stands for R / B rows on end, as `generate` orders
                several texts a prompt.
            prompt_length: how many of the T tokens are the main prompts, padding included.

        Returns:
            logits of shape (R, V), float32, on the device of `input_ids`.

        Raises:
            ConfigError: prompt and text no longer fit the model's context.
            ValueError: R is no multiple of B.
        """
        new_ids = input_ids[:, prompt_length:].to(self._model.device)
        check_other_context(
            self.name, self._longest, num_read=new_ids.shape[1], context=self._context
        )
        read, self._read = self._read, None  # a pass that fails halfway leaves a cache of no use
        mask = None
        num_read = 0 if read is None else read.shape[1]
        unread = new_ids[:, num_read:]
        if read is None or not unread.numel() or not torch.equal(new_ids[:, :num_read], read):
            unread, mask = self._from_the_prompts(new_ids)
        # Those of a whole prompt may be gigabytes.
        only_last = {"logits_to_keep": 1} if "logits_to_keep" in self._cached.accepted else {}
        logits = self._cached.next_logits(unread, attention_mask=mask, **only_last)
        self._read = new_ids.clone()
        return logits.to(input_ids.device)

    def _from_the_prompts(self, new_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Forget what was read: ids and mask of the prompt and the text of each row."""
        self._cached = CachedModel.of(self._model)
        repeats, left = divmod(len(new_ids), len(self._prompt_ids))
        if left or not repeats:
            raise ValueError(
                f"{len(new_ids)} rows are no multiple of {len(self._prompt_ids)} prompts"
            )
        rows = ((self._prompt_ids, new_ids), (self._prompt_mask, torch.ones_like(new_ids)))
        ids, mask = (torch.cat([a.repeat_interleave(repeats, dim=0), b], dim=1) for a, b in rows)
        return ids, mask


def logits_of(
    auxiliary: AuxiliaryLogits, input_ids: torch.Tensor, scores: torch.Tensor, prompt_length: int
) -> torch.Tensor:
    """The auxiliary logits for the same tokens as `scores`, (B, V) both.

    Raises:
        ConfigError: prompt and text no longer fit the model's context.
        ModelError: the model has another vocabulary.
    """
    logits = auxiliary.next_logits(input_ids, prompt_length=prompt_length)
    if logits.shape[-1] != scores.shape[-1]:
        sizes = {"theirs": logits.shape[-1], "ours": scores.shape[-1]}
        raise ModelError(other_vocabulary(auxiliary.name, **sizes))
    return logits


def where_possible(scores: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """`changed`, but -inf where `scores` are: sums of infinities are no numbers."""
    return changed.masked_fill(scores == -math.inf, -math.inf)
