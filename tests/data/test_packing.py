import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptft.data.packing import pack_blocks, pack_stream
from gptft.tokenization.token_ids import token_dtype


def test_blocks_and_tail_give_back_the_stream():
    stream = np.arange(10_000, dtype=np.uint16)
    blocks, tail = pack_blocks(stream, block_size=1024)
    assert blocks.shape == (9, 1024)
    assert tail.shape == (784,)
    assert np.concatenate([blocks.ravel(), tail]).tolist() == stream.tolist()


def test_blocks_are_a_view():
    stream = np.arange(64, dtype=np.uint16)
    blocks, _ = pack_blocks(stream, block_size=16)
    assert np.shares_memory(blocks, stream)


@given(
    lengths=st.lists(st.integers(0, 50), max_size=20),
    block_size=st.integers(1, 17),
    rows=st.integers(1, 5),
)
def test_a_stream_packs_as_one_array_does(lengths: list[int], block_size: int, rows: int):
    stream = np.arange(sum(lengths), dtype=np.uint16)
    arrays = np.split(stream, np.cumsum(lengths)[:-1]) if lengths else []
    batches = list(pack_stream(iter(arrays), block_size=block_size, rows=rows))
    blocks, tail = pack_blocks(stream, block_size=block_size)
    assert np.concatenate([b.reshape(-1, block_size) for b, _ in batches]).tolist() == (
        blocks.tolist()
    )
    assert batches[-1][1].tolist() == tail.tolist()
    assert all(len(b) == rows and not len(t) for b, t in batches[:-1])
    assert len(batches[-1][0]) < rows


@pytest.mark.parametrize(("vocab_size", "bits"), [(2, 16), (65_536, 16), (65_537, 32)])
def test_ids_are_stored_in_the_smallest_type_that_holds_them(vocab_size: int, bits: int):
    assert np.iinfo(token_dtype(vocab_size)).bits == bits
    assert np.iinfo(token_dtype(vocab_size)).max >= vocab_size - 1
