"""A model and beginnings of texts as ids -> what it writes after each, the most probable tokens."""

import math
from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding.batch import generate_batch
from gptft.decoding.encoding import continuation
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.models.load import context_of

_TOGETHER = 16  # texts in a batch


def recite(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
) -> list[str]:
    """Continue each beginning greedily, to EOS or to its own length.

    Args:
        model: in eval mode.
        tokenizer: its tokenizer.
        prompts: ids, none empty.
        lengths: how many tokens each may get, >= 1.
    """
    loaded = LoadedModel(model, tokenizer, special_tokens(model, tokenizer))
    texts = [""] * len(prompts)
    context = context_of(model) or math.inf
    for batch in _batches(
        list(map(len, prompts)), lengths, context=context, padded=loaded.takes_padding
    ):
        longest = max(lengths[number] for number in batch)
        settings = resolve_settings({"strategy": "greedy", "max_new_tokens": longest})
        rows = generate_batch(loaded, [prompts[number] for number in batch], settings=settings)
        for number, row in zip(batch, rows, strict=True):
            ids = row[: lengths[number]]
            end = next((n for n, one in enumerate(ids) if one in loaded.special.eos), None)
            texts[number] = continuation(tokenizer, prompts[number], ids[:end])
    return texts


def _batches(
    prompts: Sequence[int], lengths: Sequence[int], *, context: float, padded: bool
) -> Iterator[list[int]]:
    """Which texts are written together: each is as long as the longest, and must fit the context.

    Args:
        prompts: tokens of each beginning.
        lengths: tokens that each may get.
        context: the most the model can see.
        padded: whether beginnings of different lengths can be in one batch.

    >>> [*_batches([2, 4, 9], [7, 8, 3], context=12, padded=True)]
    [[2], [0, 1]]
    >>> [*_batches([2, 3, 2], [4, 5, 6], context=9, padded=False)]
    [[0, 2], [1]]
    """
    batch: list[int] = []
    order = sorted(
        range(len(prompts)), key=lambda number: (0 if padded else prompts[number], lengths[number])
    )
    for number in order:
        sizes = {prompts[one] for one in (*batch, number)}
        fits = max(sizes) + lengths[number] - 1 <= context and (padded or len(sizes) == 1)
        if batch and (len(batch) == _TOGETHER or not fits):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
