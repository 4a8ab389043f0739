"""A model and its tokenizer -> the ids that begin, end and fill up texts, and what fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding.encoding import prefix_ids
from gptft.decoding.prompts.room import too_long
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of, special_ids


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that begin, end and fill up texts.

    Attributes:
        eos: each of them ends a text; those of the tokenizer and of the model, maybe none.
        pad: fills up rows of a batch; masked, so any id will do.
        start: BOS, else EOS, or None where there is neither.
        prefix: what the tokenizer puts before a text; nothing where it puts none.
        unknown: ids that the model has embeddings for and the tokenizer no token, as where a
            vocabulary was padded to a round number; EOS isn't among them.
    """

    eos: tuple[int, ...]
    pad: int
    start: int | None
    prefix: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()

    @property
    def before(self) -> list[int]:
        """What the first token of a text follows: the prefix, else `start`, else nothing."""
        return [*self.prefix] or ([] if self.start is None else [self.start])

    def num_before(self, ids: Sequence[int]) -> int:
        """How many of a prompt's ids stand before its text and are none of it."""
        before = self.before
        is_framed = [*ids[: len(before)]] == before and (self.prefix or len(ids) == 1)
        return len(before) if is_framed else 0

    def first(self) -> list[int]:
        """What an empty prompt begins with.

        Raises:
            ConfigError: the model has no token to begin with.
        """
        if not self.before:
            raise ConfigError(
                "The prompt is empty, and this model has neither BOS nor EOS to begin a text with. "
                "Give it a first word."
            )
        return self.before


def special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special ids of a model and its tokenizer; ids the model has no embedding for are not."""
    num_ids = num_embeddings(model)
    own = model.generation_config

    def known(*candidates: Any) -> list[int]:
        flat = [i for c in candidates for i in (c if isinstance(c, list) else [c])]
        return [i for i in dict.fromkeys(flat) if isinstance(i, int) and 0 <= i < num_ids]

    eos, named = known(tokenizer.eos_token_id), known(own.eos_token_id if own else None)
    if eos and eos[0] not in named:  # the files disagree: an ordinary token ends no text
        control = special_ids(tokenizer)
        named = [i for i in named if i in control]
    eos = known(eos, named)
    bos = known(tokenizer.bos_token_id, own.bos_token_id if own else None)
    pad = known(tokenizer.pad_token_id, *eos)
    unknown: tuple[int, ...] = ()
    if len(tokenizer) < (num_written := num_logits(model)):
        unknown = tuple(sorted({*range(num_written)} - {*tokenizer.get_vocab().values(), *eos}))
    start, prefix = next(iter([*bos, *eos]), None), prefix_ids(tokenizer)
    return SpecialTokens(tuple(eos), pad[0] if pad else 0, start, prefix, unknown)


def check_ids(model: PreTrainedModel, encoded: Sequence[Sequence[int]]) -> None:
    """Refuse ids that the model has no embedding for.

    Raises:
        ModelError: there are some.
    """
    highest, num_ids = max((i for ids in encoded for i in ids), default=0), num_embeddings(model)
    if highest >= num_ids:
        raise ModelError(
            f"The tokenizer gives id {highest:,}, and the model has {num_ids:,} embeddings. "
            "The tokenizer belongs to another model."
        )


def check_context(
    model: PreTrainedModel,
    encoded: Sequence[Sequence[int]],
    *,
    prompts: Sequence[str],
    max_new_tokens: int,
) -> None:
    """Refuse what would run beyond the last position; the last new token needs none.

    Raises:
        ConfigError: prompts are too long, one message each.
    """
    lengths = [(prompt, len(ids)) for prompt, ids in zip(prompts, encoded, strict=True)]
    problems = too_long(lengths, max_new_tokens=max_new_tokens, context=context_of(model))
    if problems:
        raise ConfigError(*problems)


def num_embeddings(model: PreTrainedModel) -> int:
    """How many ids a model reads, maybe more than its tokenizer has."""
    return len(model.get_input_embeddings().weight)  # type: ignore[arg-type]  # (V, C)


def num_logits(model: PreTrainedModel) -> int:
    """How many ids a model writes, V of its logits; Moshi reads one more, which begins a text."""
    weight = getattr(model.get_output_embeddings(), "weight", None)
    return num_embeddings(model) if weight is None else min(len(weight), num_embeddings(model))
