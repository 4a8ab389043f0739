from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gptft.corpus.store import BlockStore, write_part
from gptft.training.dataset import (
    BlockDataset,
    ShiftedBlockDataset,
    collate_blocks,
    spread_indices,
)


def store_of(num_tokens: int, folder: Path) -> BlockStore:
    """A store of the ids 0, 1, 2, ... in blocks of 4, the tail kept."""
    write_part(
        iter([np.arange(num_tokens, dtype=np.uint16)]),
        folder,
        part="train",
        block_size=4,
        dtype=np.uint16,
        keep_tail=True,
    )
    return BlockStore(folder)


def test_labels_are_the_real_tokens_and_eos_stays_whatever_pads():
    eos = 0  # the very id that the collator pads with
    batch = collate_blocks([torch.tensor([5, eos, 7, eos]), torch.tensor([8, eos])])
    assert batch["input_ids"].tolist() == [[5, 0, 7, 0], [8, 0, 0, 0]]
    assert batch["labels"].tolist() == [[5, 0, 7, 0], [8, 0, -100, -100]]


def test_a_batch_never_carries_a_mask():
    assert set(collate_blocks([torch.tensor([1, 2])])) == {"input_ids", "labels"}


def test_a_dataset_hands_out_the_stores_blocks_as_int64(tmp_path: Path):
    store = store_of(10, tmp_path)
    dataset = BlockDataset(store)
    assert [dataset[i].tolist() for i in range(len(dataset))] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert dataset[0].dtype == torch.int64
    some = BlockDataset(store, indices=[2, 0])
    assert [some[i].tolist() for i in range(len(some))] == [[8, 9], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("length", "at_most", "indices"),
    [(0, 4, []), (3, 4, [0, 1, 2]), (4, 4, [0, 1, 2, 3]), (100, 4, [0, 33, 66, 99])],
)
def test_indices_are_spread_evenly(length: int, at_most: int, indices: list[int]):
    assert spread_indices(length, at_most=at_most) == indices


def test_every_epoch_sees_every_token_once_cut_elsewhere(tmp_path: Path):
    store = store_of(22, tmp_path)
    dataset = ShiftedBlockDataset(store, seed=1)
    again = ShiftedBlockDataset(store, seed=1)
    epochs = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        again.set_epoch(epoch)
        blocks = [dataset[i].tolist() for i in range(len(dataset))]
        assert blocks == [again[i].tolist() for i in range(len(again))]
        assert [len(block) for block in blocks] == [4, 4, 4, 4, 4, 2]
        stream = [token for block in blocks for token in block]
        assert sorted(stream) == list(range(22))
        assert all((a + 1) % 22 == b for a, b in pairwise(stream))
        epochs.append(stream)
    assert epochs[0] == list(range(22))
    assert len({stream[0] for stream in epochs}) > 2


def test_a_single_block_is_never_shifted(tmp_path: Path):
    dataset = ShiftedBlockDataset(store_of(3, tmp_path), seed=1)
    dataset.set_epoch(5)
    assert dataset[0].tolist() == [0, 1, 2]
