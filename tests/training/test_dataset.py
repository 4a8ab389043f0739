from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gptft.data.store import BlockStore, write_split
from gptft.training.dataset import (
    BlockDataset,
    ShiftedBlockDataset,
    collate_blocks,
    collate_masked,
    count_tokens,
    spread_indices,
)


def store_of(num_tokens: int, folder: Path, *, keep_tail: bool = True) -> BlockStore:
    """A store of the ids 0, 1, 2, ... in blocks of 4."""
    write_split(
        iter([np.arange(num_tokens, dtype=np.uint16)]),
        folder,
        split="train",
        block_size=4,
        dtype=np.uint16,
        keep_tail=keep_tail,
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
    dataset = ShiftedBlockDataset(store, seed=1, eos_token_id=21)
    again = ShiftedBlockDataset(store, seed=1, eos_token_id=21)
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
    dataset = ShiftedBlockDataset(store_of(3, tmp_path), seed=1, eos_token_id=2)
    dataset.set_epoch(5)
    assert dataset[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("num_tokens", "keep_tail"), [(22, False), (21, True)])
def test_a_cut_last_document_is_never_joined_to_the_first(
    tmp_path: Path, num_tokens: int, keep_tail: bool
):
    """With its tail dropped, or a tail of one token, the store ends in mid-document, at 19."""
    store = store_of(num_tokens, tmp_path, keep_tail=keep_tail)
    assert store.num_tokens == 20
    dataset = ShiftedBlockDataset(store, seed=1, eos_token_id=num_tokens - 1)
    again = ShiftedBlockDataset(store, seed=1, eos_token_id=num_tokens - 1)
    seams = set()
    for epoch in range(40):
        dataset.set_epoch(epoch)
        again.set_epoch(epoch)
        blocks = [dataset[i].tolist() for i in range(len(dataset))]
        assert blocks == [again[i].tolist() for i in range(len(again))]
        assert len(blocks) == 5
        assert all(a + 1 == b for block in blocks for a, b in pairwise(block))
        lengths = sorted(len(block) for block in blocks)
        assert lengths[0] >= 2
        assert lengths[1:] == [4] * 4
        stream = [token for block in blocks for token in block]
        assert len(set(stream)) == len(stream)
        missing = set(range(20)) - set(stream)
        seams.add(tuple(sorted(missing)))
    assert seams == {(), (0,), (0, 1), (19,)}


def test_a_dropped_tail_that_leaves_whole_documents_is_a_ring(tmp_path: Path):
    store = store_of(22, tmp_path, keep_tail=False)
    dataset = ShiftedBlockDataset(store, seed=1, eos_token_id=19)
    dataset.set_epoch(1)
    stream = [token for i in range(len(dataset)) for token in dataset[i].tolist()]
    assert sorted(stream) == list(range(20))


EOS = 9


def test_positions_start_again_with_each_document_and_its_first_token_has_no_label():
    batch = collate_masked(
        [torch.tensor([1, 2, EOS, 3, EOS, EOS, 4]), torch.tensor([EOS, 5, 6])], eos_token_id=EOS
    )
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 0, 1, 3, 4, 5, 6]]
    assert batch["labels"].tolist() == [
        [-100, 2, EOS, -100, EOS, -100, -100],
        [-100, -100, 6, -100, -100, -100, -100],
    ]
    assert count_tokens(batch) == 10


def test_padding_that_looks_like_eos_is_no_document_and_counts_for_nothing():
    batch = collate_masked([torch.tensor([1, 2, 3, 0]), torch.tensor([4, 0])], eos_token_id=0)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[-100, 2, 3, 0], [-100, 0, -100, -100]]
    assert count_tokens(batch) == 6
