"""A second stream of logits beside the main one: amateurs, experts, prompts to keep away from.

In: a model with a prompt of its own, and the text so far. Out: logits processors that bend the main
model's scores by what the second stream says of the same next token. They compare distributions, so
they must see scores nothing has bent yet: they come first in the list. None of them may be used
with beams or drafts: bent scores aren't those of a text, and can't be compared between texts. Knows
nothing of settings, tokenizers or where a model comes from.
"""

import math

import torch
from transformers import LogitsProcessor, PreTrainedModel

from gptft.decoding.cached_model import CachedModel
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of


class Companion:
    """A model that goes on from prompts of its own with the tokens another one has chosen.

    It keeps the keys and values of what it has read, and is fed only what is new. Where the text so
    far doesn't go on from the one before it begins anew, so that one companion serves many calls of
    `generate`, one after the other.
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
        if not self._prompt_mask[:, -1].all():
            raise ConfigError(
                f"{name}: a prompt ends with padding, or has no token. Give it at least one, and "
                "pad on the left."
            )
        self._longest = int(self._prompt_mask.sum(dim=1).max())
        highest = int(self._prompt_ids.max())
        num_ids = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
        if highest >= num_ids:
            raise ModelError(
                f"{name}: its prompt holds id {highest:,}, and it has {num_ids:,} embeddings. Use "
                "one with the main model's tokenizer."
            )
        self._read: torch.Tensor | None = None  # generated ids in the cache, (rows, n)
        self._row_ids = self._prompt_ids  # the prompt of each row, (rows, Tp)
        self._row_mask = self._prompt_mask
        self._cached = CachedModel.of(model)

    def next_logits(self, input_ids: torch.Tensor, *, prompt_length: int) -> torch.Tensor:
        """What the model would write after its own prompt and the tokens generated so far.

        Args:
            input_ids: shape (R, T), the main model's prompts and what it wrote. R is B, or a
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
        self._check_context(new_ids.shape[1])
        if self._goes_on(new_ids):
            unread, mask = new_ids[:, self._num_read :], None
        else:
            self._begin(len(new_ids))
            unread = torch.cat([self._row_ids, new_ids], dim=1)
            mask = torch.cat([self._row_mask, torch.ones_like(new_ids)], dim=1)
        self._read = None  # a pass that fails halfway leaves a cache of no use
        # Those of a whole prompt may be gigabytes.
        only_last = {"logits_to_keep": 1} if "logits_to_keep" in self._cached.accepted else {}
        logits = self._cached.next_logits(unread, attention_mask=mask, **only_last)
        self._read = new_ids.clone()
        return logits.to(input_ids.device)

    @property
    def _num_read(self) -> int:
        return 0 if self._read is None else self._read.shape[1]

    def _goes_on(self, new_ids: torch.Tensor) -> bool:
        """Whether `new_ids` are longer than what was read, and begin with it."""
        return (
            self._read is not None
            and new_ids.shape[1] > self._num_read
            and torch.equal(new_ids[:, : self._num_read], self._read)
        )

    def _begin(self, num_rows: int) -> None:
        repeats, left = divmod(num_rows, len(self._prompt_ids))
        if left or not repeats:
            raise ValueError(f"{num_rows} rows are no multiple of {len(self._prompt_ids)} prompts")
        self._row_ids = self._prompt_ids.repeat_interleave(repeats, dim=0)
        self._row_mask = self._prompt_mask.repeat_interleave(repeats, dim=0)
        self._cached = CachedModel.of(self._model)

    def _check_context(self, num_new: int) -> None:
        length = self._longest + num_new
        if self._context is not None and length > self._context:
            raise ConfigError(
                f"{self.name}: its context is {self._context:,} tokens, and its prompt of "
                f"{self._longest:,} and the text come to {length:,}. Lower max_new_tokens, or "
                "shorten the prompt."
            )


class AmateurProcessor(LogitsProcessor):
    """Prefers tokens that the model, here the expert, likes better than an amateur does.

    On tokens with p_expert >= cd_alpha * max p_expert the logits become
    (1 + cd_beta) * s_expert - cd_beta * s_amateur / amateur_temperature; all others -inf.

    That is the form of O'Brien and Lewis. Li et al. score a token by log p_expert - log p_amateur
    on the same set, the amateur's softmax taken at its temperature. The two differ by a constant a
    step, which no softmax and no argmax sees, and by how much the amateur weighs: with cd_beta the
    order is that of log p_expert - cd_beta / (1 + cd_beta) * log p_amateur, which comes to the
    original's as cd_beta grows; 0 is the expert alone, its unlikely tokens cut. Li et al. search
    with beams; here a token is taken or drawn at each step. An amateur that sees less of the prompt
    (their section 3.4) is a companion with a shorter one.

    Not to be used with beams: what is compared between texts would be the bent scores.

    Source: Li et al. 2023 (2210.15097), section 3; O'Brien and Lewis 2023 (2309.09117).
    """

    def __init__(
        self,
        companion: Companion,
        *,
        prompt_length: int,
        cd_alpha: float,
        cd_beta: float,
        amateur_temperature: float = 1.0,
    ) -> None:
        """Contrast with `companion`.

        Args:
            companion: the amateur, most often with the same prompts.
            prompt_length: of the main prompts, padding included.
            cd_alpha: the least share of the highest probability, above 0, at most 1.
            cd_beta: how much the amateur weighs, 0 or more.
            amateur_temperature: the amateur's logits are divided by it, above 0.
        """
        self._companion = companion
        self._prompt_length = prompt_length
        self._log_alpha = math.log(cd_alpha)
        self._beta = cd_beta
        self._temperature = amateur_temperature

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Bend raw logits of shape (B, V); `input_ids` of shape (B, T).

        Raises:
            ConfigError: the amateur's context is full.
            ModelError: the amateur has another vocabulary.
        """
        amateur = _beside(self._companion, input_ids, scores, self._prompt_length)
        bent = (1 + self._beta) * scores - self._beta / self._temperature * amateur
        # p >= alpha * max p, without the softmax that both sides share
        implausible = scores < scores.max(dim=-1, keepdim=True).values + self._log_alpha
        return _where_possible(scores, bent.masked_fill(implausible, -math.inf))


class DExpertsProcessor(LogitsProcessor):
    """Pulls towards a model tuned on what is wanted and away from one tuned on what isn't.

    The logits become z + dexperts_alpha * (z_expert - z_antiexpert); one that is missing counts as
    the model itself. The paper cuts the model's own tail before this (eq. 3); here top_p and its
    like cut what comes out.

    Not to be used with beams: what is compared between texts would be the bent scores.

    Source: Liu et al. 2021 (2105.03023), eq. 2.
    """

    def __init__(
        self,
        expert: Companion | None,
        antiexpert: Companion | None,
        *,
        prompt_length: int,
        dexperts_alpha: float,
    ) -> None:
        """Pull with one companion or two.

        Args:
            expert: goes on as is wanted, with the same prompts.
            antiexpert: goes on as isn't.
            prompt_length: of the main prompts, padding included.
            dexperts_alpha: how much they pull, 0 or more.

        Raises:
            ConfigError: there is neither.
        """
        if expert is None and antiexpert is None:
            raise ConfigError("dexperts needs expert_model, antiexpert_model or both.")
        self._expert = expert
        self._antiexpert = antiexpert
        self._prompt_length = prompt_length
        self._alpha = dexperts_alpha

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Bend raw logits of shape (B, V); `input_ids` of shape (B, T).

        Raises:
            ConfigError: the context of one of the two is full.
            ModelError: one of the two has another vocabulary.
        """
        expert, antiexpert = (
            scores if one is None else _beside(one, input_ids, scores, self._prompt_length)
            for one in (self._expert, self._antiexpert)
        )
        return _where_possible(scores, scores + self._alpha * (expert - antiexpert))


class GuidanceProcessor(LogitsProcessor):
    """Pulls away from what would follow another prompt, a negative one or none to speak of.

    The logits become log p_other + guidance_scale * (log p - log p_other): 1 leaves the model as it
    is, above 1 leads away from the other prompt, 0 is the other prompt alone. Equal to
    transformers' own guidance, but for batches as well.

    With the scale 1 + alpha and the prompt without its context this is context-aware decoding,
    softmax((1 + alpha) * z_with - alpha * z_without): the two differ by a constant a step.

    Not to be used with beams: what is compared between texts would be the bent scores.

    Source: Sanchez et al. 2023 (2306.17806), section 2; Shi et al. 2023 (2305.14739), section 2.
    """

    def __init__(self, companion: Companion, *, prompt_length: int, guidance_scale: float) -> None:
        """Pull away from `companion`.

        Args:
            companion: the same model with the other prompts.
            prompt_length: of the main prompts, padding included.
            guidance_scale: 0 or more.
        """
        self._companion = companion
        self._prompt_length = prompt_length
        self._scale = guidance_scale

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Raw logits of shape (B, V) -> bent log-probabilities; `input_ids` of shape (B, T).

        Raises:
            ConfigError: the other text no longer fits the context.
            ModelError: the companion has another vocabulary.
        """
        logits = _beside(self._companion, input_ids, scores, self._prompt_length)
        other = logits.log_softmax(dim=-1)
        bent = other + self._scale * (scores.log_softmax(dim=-1) - other)
        return _where_possible(scores, bent)


def _beside(
    companion: Companion, input_ids: torch.Tensor, scores: torch.Tensor, prompt_length: int
) -> torch.Tensor:
    """The companion's logits for the same tokens as `scores`, (B, V) both."""
    logits = companion.next_logits(input_ids, prompt_length=prompt_length)
    if logits.shape[-1] != scores.shape[-1]:
        raise ModelError(
            f"{companion.name}: it has a vocabulary of {logits.shape[-1]:,}, and the main model "
            f"one of {scores.shape[-1]:,}. Use one with the same vocabulary."
        )
    return logits


def _where_possible(scores: torch.FloatTensor, bent: torch.Tensor) -> torch.FloatTensor:
    """`bent`, but -inf where `scores` are: sums of infinities are no numbers."""
    return bent.masked_fill(scores == -math.inf, -math.inf)  # type: ignore[return-value]
