"""A block store and the section `data` -> what each epoch trains on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from gptft.config.data import DataConfig
from gptft.data.store import BlockStore
from gptft.tokenization.framing import begins_each
from gptft.training.dataset import BlockDataset, EpochDataset, ShiftedBlockDataset
from gptft.training.shuffled_documents import ShuffledBlockDataset


class EpochBlocks(NamedTuple):
    """What each epoch trains on.

    Attributes:
        blocks: of the epoch that was set last.
        by_epoch: the same, to be told which epoch begins; None where all epochs are alike.
        is_shifted: whether each epoch cuts the stream elsewhere.
        is_shuffled: whether each epoch has the documents in another order.
        notes: sentences on what has no effect.
    """

    blocks: Dataset[torch.Tensor]
    by_epoch: EpochDataset | None
    is_shifted: bool = False
    is_shuffled: bool = False
    notes: tuple[str, ...] = ()


def epoch_blocks(
    data: DataConfig | None,
    store: BlockStore,
    *,
    packing: str,
    seed: int,
    eos_token_id: int,
    bos: Sequence[int],
    isolated: bool,
) -> EpochBlocks:
    """Cut the blocks of each epoch as `data` has it.

    Args:
        data: the section; None for blocks made elsewhere.
        store: the training split.
        packing: how it is packed, `stream` or `best_fit`.
        seed: of training.
        eos_token_id: that ends each document.
        bos: ids that begin documents, maybe none.
        isolated: whether documents of a block don't see each other.
    """
    notes: tuple[str, ...] = ()
    each = begins_each(bos, eos_token_id=eos_token_id, isolated=isolated)
    if data is not None and packing == "best_fit":  # by auto: where it is said, it is refused
        asked = {"shift_blocks": data.shift_blocks, "shuffle_documents": data.shuffle_documents}
        notes = tuple(
            f"data.{name} has no effect by data.packing: best_fit." for name in asked if asked[name]
        )
    shifts = data is not None and data.shifts(packing)
    if data is not None and data.shuffles(packing):
        shuffled = ShuffledBlockDataset.of(
            store, seed=seed, eos_token_id=eos_token_id, bos=bos, begins_each=each
        )
        if shuffled.num_documents > 1:
            return EpochBlocks(shuffled, shuffled, is_shuffled=True)
        shifts = True
        notes = (
            "data.shuffle_documents has no effect on one document: each epoch cuts it elsewhere.",
        )
    if not shifts:
        return EpochBlocks(BlockDataset(store), None, notes=notes)
    shifted = ShiftedBlockDataset(store, seed=seed, eos_token_id=eos_token_id, begins_each=each)
    return EpochBlocks(shifted, shifted, is_shifted=True, notes=notes)
