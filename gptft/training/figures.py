"""What was measured of a model -> its bytes, run.json and back."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from gptft.models.load import special_ids
from gptft.runs.read import BeforeAfter, as_int
from gptft.tokenization.token_bytes import TokenBytes
from gptft.training.dataset import IGNORED, BlockDataset
from gptft.training.evaluation import Measured

_BLOCKS = 64  # collated together: how many changes nothing


def before_and_after(before: Measured, after: Measured) -> BeforeAfter:
    """The figures of a text before and after training."""
    return BeforeAfter(
        before.loss, after.loss, before.perplexity, after.perplexity, after.num_tokens,
        before.bits_per_byte, after.bits_per_byte, after.num_bytes,
    )  # fmt: skip


def as_facts(figure: Measured | None) -> dict[str, Any] | None:
    """A figure as run.json has it."""
    return None if figure is None else vars(figure)


def from_facts(before: Mapping[str, Any]) -> tuple[Measured, Measured | None]:
    """The figures of the training text and of held-out text, where there is any."""
    validation = before.get("validation")
    return read_figure(before["train"]), read_figure(validation) if validation else None


def read_figure(figure: Mapping[str, Any]) -> Measured:
    """What `as_facts` wrote; JSON has no word for a loss that isn't a number."""
    loss, num_bytes = figure["loss"], as_int(figure.get("num_bytes"))
    loss = math.nan if loss is None else float(loss)
    return Measured(loss, int(figure["num_tokens"]), num_bytes)


def predicted_bytes(
    blocks: BlockDataset,
    tokenizer: PreTrainedTokenizerBase,
    collate: Callable[[list[Any]], Mapping[str, Any]],
) -> int:
    """How many bytes of UTF-8 the tokens stand for that are predicted of some blocks.

    Special tokens have none. A space that a tokenizer puts before a text counts as a byte of it.

    Args:
        blocks: as they are measured.
        tokenizer: theirs.
        collate: makes their batches, with labels.
    """
    counts = np.zeros(0, np.int64)
    for begin in range(0, len(blocks), _BLOCKS):
        some = [blocks[i] for i in range(begin, min(begin + _BLOCKS, len(blocks)))]
        labels = collate(some)["labels"][:, 1:]  # (B, T - 1): the first token is never predicted
        found = np.bincount(labels[labels != IGNORED].numpy(), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    special, token_bytes = special_ids(tokenizer), TokenBytes.of(tokenizer.backend_tokenizer)
    ids = [i for i in np.flatnonzero(counts).tolist() if i not in special]
    raws = token_bytes.of_ids(ids, at_start=False)
    return sum(len(raw) * int(counts[i]) for i, raw in zip(ids, raws, strict=True))
