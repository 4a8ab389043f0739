"""Blocks of a store -> batches of tensors.

In: a `BlockStore`. Out: `input_ids` and `labels`, and never an attention mask: blocks are full of
real tokens, the padding that a shorter last block needs in a batch stands to its right, where a
causal model can't see it from any real token, and a mask would push attention off its fast path.
"""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from gptft.corpus.store import BlockStore

IGNORED = -100  # the label that torch's cross-entropy leaves out


class BlockDataset(Dataset[torch.Tensor]):
    """The blocks of a store, or some of them, as int64 tensors of shape (T,)."""

    def __init__(self, store: BlockStore, *, indices: Sequence[int] | None = None) -> None:
        self._store = store
        self._indices = range(len(store)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self._store[self._indices[index]].astype("int64"))


def collate_blocks(blocks: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack blocks into a batch; labels are the real tokens and nothing else.

    EOS is a real token: its label stays, whatever id pads.

    Args:
        blocks: each int64 of shape (t,), t at most T.

    Returns:
        `input_ids` and `labels`, both of shape (B, T), with padding on the right: 0 among the ids,
        -100 among the labels.

    >>> collate_blocks([torch.tensor([5, 6, 7]), torch.tensor([8, 9])])["labels"].tolist()
    [[5, 6, 7], [8, 9, -100]]
    """
    longest = max(len(block) for block in blocks)
    input_ids = torch.zeros((len(blocks), longest), dtype=torch.int64)
    labels = torch.full((len(blocks), longest), IGNORED, dtype=torch.int64)
    for row, block in enumerate(blocks):
        input_ids[row, : len(block)] = block
        labels[row, : len(block)] = block
    return {"input_ids": input_ids, "labels": labels}


def spread_indices(length: int, *, at_most: int) -> list[int]:
    """Up to `at_most` indices below `length`, evenly spread, the first and last among them.

    >>> spread_indices(9, at_most=3), spread_indices(2, at_most=3)
    ([0, 4, 8], [0, 1])
    """
    if length <= at_most:
        return list(range(length))
    return [round(i * (length - 1) / (at_most - 1)) for i in range(at_most)]
