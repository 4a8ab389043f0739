"""Blocks of a store -> batches of `input_ids` and `labels`, and `position_ids` to mask documents.

A block of a store that says more than ids is one tensor, too: its ids, marked as
`gptft.data.marked_ids` has it.

There is never an attention mask: blocks are full of real tokens, the padding that a shorter last
block needs in a batch is on its right, where a causal model can't see it from any real token,
and a mask would push attention off its fast path.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.data.marked_ids import BEGINS, TRAINED, Flags
from gptft.data.store import BlockStore
from gptft.tokenization.token_ids import TokenIds
from gptft.training.document_masking import restarting_positions

IGNORED = -100  # the label that torch's cross-entropy leaves out
# In a batch whose labels don't tell: which document of its row each token is of, counted from 1,
# and 0 for padding. No model takes it.
DOCUMENTS = "documents"
Collate = Callable[[Sequence[torch.Tensor]], dict[str, torch.Tensor]]


class BlockDataset(Dataset[torch.Tensor]):
    """The blocks of a store, or some of them, as they are: int64 tensors of shape (T,)."""

    def __init__(self, store: BlockStore, *, indices: Sequence[int] | None = None) -> None:
        self._store = store
        self._indices = range(len(store)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> torch.Tensor:
        place = self._indices[index]
        store = self._store
        return marked_block(store[place], begins=store.begins(place), trained=store.trained(place))


def marked_block(ids: TokenIds, *, begins: Flags | None, trained: Flags | None) -> torch.Tensor:
    """Ids as int64, with the marks that there are; where documents are marked, tokens are, too."""
    block = torch.from_numpy(ids.astype("int64"))
    if begins is not None:
        block += torch.from_numpy(begins) * int(BEGINS)
        block += int(TRAINED) if trained is None else torch.from_numpy(trained) * int(TRAINED)
    return block


class ShiftedBlockDataset(Dataset[torch.Tensor]):
    """All blocks of a store, cut elsewhere in each epoch.

    The stream of documents is read as a ring and cut from another token on in every epoch but the
    first, whose blocks are the stored ones; each epoch still sees every token once. A text seen
    often is otherwise learned at the places it has in the blocks, and a prompt, which begins at the
    first place, isn't recognised (docs/experiments.md). A single block is never shifted.

    Where the stream doesn't end with EOS, its last document was cut, and the first would follow it
    as if it were its end. The one block that lies over that seam then stops short of it or begins
    after it, whichever leaves more: the number of blocks stays, and an epoch misses less than half
    a block.

    Where BOS is EOS and stands before the first document alone, the EOS at the stream's end takes
    its place at the seam.
    """

    def __init__(
        self, store: BlockStore, *, seed: int, eos_token_id: int, begins_each: bool = True
    ) -> None:
        """Cut `store` from places drawn by `seed` and the epoch; EOS ends its documents.

        `begins_each` is False where BOS is EOS; see `gptft.tokenization.framing.begins_each`.
        """
        self._store, self._begins_each = store, begins_each
        self._seed = seed
        self._offset = 0
        self._is_ring = len(store) > 0 and int(store[-1][-1]) == eos_token_id

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> torch.Tensor:
        length = len(self._store[index])
        start = (index * self._store.block_size + self._offset) % self._store.num_tokens
        before_seam = self._store.num_tokens - start
        if not self._is_ring and before_seam < length:
            after_seam = length - before_seam
            start = start if before_seam >= after_seam else 0
            length = max(before_seam, after_seam)
        block = marked_block(
            self._store.span(start, length),
            begins=self._store.flag_span("begins", start, length),
            trained=self._store.flag_span("trained", start, length),
        )
        if not self._begins_each and before_seam < length:
            block = torch.cat([block[:before_seam], block[before_seam + 1 :]])
        return block

    def set_epoch(self, epoch: int) -> None:
        """Cut as epoch `epoch`, from 0, is cut: the same in every process and every run."""
        self._offset = 0
        if epoch > 0 and len(self._store) > 1:
            draw = np.random.default_rng([self._seed, epoch])
            self._offset = int(draw.integers(self._store.num_tokens))


class EpochDataset(Protocol):
    """Blocks that are others in each epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Be as epoch `epoch`, from 0, has them."""


class CutEachEpoch(TrainerCallback):
    """Tells the dataset which epoch begins."""

    def __init__(self, dataset: EpochDataset) -> None:
        """Tell `dataset`."""
        self._dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called before the epoch's first batch is read."""
        # A run resumed in the middle of an epoch has a fraction here.
        self._dataset.set_epoch(int((state.epoch or 0) + 1e-6))


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


def collate_masked(
    blocks: Sequence[torch.Tensor], *, eos_token_id: int, bos_token_id: int | None = None
) -> dict[str, torch.Tensor]:
    """Stack blocks into a batch whose documents don't see each other.

    The first token of each document has no label: only another document's end comes before it.
    Padding has its place in the row for a position: that is within the context, never 0, and as it
    comes last and its labels are -100, it doesn't matter which document it is counted to.

    Args:
        blocks: each int64 of shape (t,), t at most T.
        eos_token_id: ends each document.
        bos_token_id: begins each document; None where nothing does.

    Returns:
        `input_ids` and `labels` as `collate_blocks` makes them but for those first tokens, and
        `position_ids`, which start again at 0 with each document; all of shape (B, T).

    >>> batch = collate_masked([torch.tensor([5, 9, 6, 7]), torch.tensor([8, 9])], eos_token_id=9)
    >>> batch["position_ids"].tolist(), batch["labels"].tolist()
    ([[0, 1, 0, 1], [0, 1, 2, 3]], [[-100, 9, -100, 7], [-100, 9, -100, -100]])
    """
    batch = collate_blocks(blocks)
    place = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
    real = batch["labels"] != IGNORED
    restarting = restarting_positions(batch["input_ids"], eos_token_id, bos_token_id)
    positions = torch.where(real, restarting, place)
    labels = batch["labels"].masked_fill(positions == 0, IGNORED)
    return {"input_ids": batch["input_ids"], "labels": labels, "position_ids": positions}


def collate_marked(blocks: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack marked blocks into a batch; labels are the tokens that are trained on.

    Args:
        blocks: each int64 of shape (t,), t at most T, marked.

    Returns:
        `input_ids` and `labels` as `collate_blocks` makes them, but for the tokens that aren't
        trained on, whose label is -100; and `documents`, of the same shape: see `DOCUMENTS`.

    >>> marks = torch.tensor([TRAINED, BEGINS, TRAINED]).long()
    >>> batch = collate_marked([torch.tensor([5, 6, 7]) + marks])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist(), batch[DOCUMENTS].tolist()
    ([[5, 6, 7]], [[5, -100, 7]], [[1, 2, 2]])
    """
    return _collated(blocks)[0]


def collate_marked_apart(blocks: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack marked blocks into a batch whose documents don't see each other.

    Args:
        blocks: each int64 of shape (t,), t at most T, marked.

    Returns:
        what `collate_marked` gives, and `position_ids`, which start again at 0 with each document
        or further piece of one; that first token has no label. Padding is as in `collate_masked`.
    """
    batch, begins = _collated(blocks)
    place = torch.arange(begins.shape[1]).expand_as(begins)
    positions = place - torch.where(begins, place, 0).cummax(dim=1).values
    positions = torch.where(batch[DOCUMENTS] > 0, positions, place)
    labels = batch["labels"].masked_fill(positions == 0, IGNORED)
    return {**batch, "labels": labels, "position_ids": positions}


def _collated(blocks: Sequence[torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A batch of marked blocks, and which of its tokens are the first of a document, (B, T)."""
    marked = collate_blocks(blocks)["input_ids"]
    ids = marked & (int(BEGINS) - 1)
    labels = ids.masked_fill((marked & int(TRAINED)) == 0, IGNORED)  # padding has no mark
    begins = (marked & int(BEGINS)) != 0
    lengths = torch.tensor([len(block) for block in blocks])
    is_real = torch.arange(ids.shape[1]) < lengths[:, None]
    # A row of a stream may begin in the middle of a document.
    documents = (begins.cumsum(dim=1) + ~begins[:, :1]) * is_real
    return {"input_ids": ids, "labels": labels, DOCUMENTS: documents}, begins


def collator_of(
    store: BlockStore, *, apart: bool, eos_token_id: int, bos: Sequence[int] = ()
) -> Collate:
    """What makes batches of the blocks of a store.

    Args:
        store: whose blocks they are.
        apart: whether their documents don't see each other.
        eos_token_id: ends each document.
        bos: begins each, maybe nothing.
    """
    if store.is_fitted or store.is_masked:
        return collate_marked_apart if apart else collate_marked
    if not apart:
        return collate_blocks
    bos_token_id = bos[0] if bos else None
    return partial(collate_masked, eos_token_id=eos_token_id, bos_token_id=bos_token_id)


def count_tokens(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """How many real tokens a collated batch holds, with a label or not: a 0-d tensor.

    >>> int(count_tokens(collate_masked([torch.tensor([5, 9, 6])], eos_token_id=9)))
    3
    """
    if DOCUMENTS in batch:
        return (batch[DOCUMENTS] > 0).sum()
    real = batch["labels"] != IGNORED
    if "position_ids" in batch:
        real = real | (batch["position_ids"] == 0)
    return real.sum()


def spread_indices(length: int, *, at_most: int) -> list[int]:
    """Up to `at_most` indices below `length`, evenly spread, the first and last among them.

    >>> spread_indices(9, at_most=3), spread_indices(2, at_most=3)
    ([0, 4, 8], [0, 1])
    """
    if length <= at_most:
        return list(range(length))
    return [round(i * (length - 1) / (at_most - 1)) for i in range(at_most)]
