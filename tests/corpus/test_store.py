from pathlib import Path

import numpy as np
import pytest

from gptft.corpus.store import ROWS, BlockStore, commit_store, read_ledger, write_part
from gptft.errors import DataError


def write(folder: Path, stream: np.ndarray, *, block_size: int, keep_tail: bool = True):
    folder.mkdir(exist_ok=True)
    return write_part(
        iter(np.array_split(stream, 7)),
        folder,
        part="train",
        block_size=block_size,
        dtype=np.uint16,
        keep_tail=keep_tail,
    )


def test_what_is_written_is_what_is_read(tmp_path: Path):
    stream = np.arange(ROWS * 8 * 2 + 8 * 3 + 5, dtype=np.uint16)  # more than two record batches
    size = write(tmp_path, stream, block_size=8)
    store = BlockStore(tmp_path)
    assert (size.num_blocks, size.tail_tokens, size.dropped_tokens) == (ROWS * 2 + 3, 5, 0)
    assert len(store) == ROWS * 2 + 4
    assert np.concatenate([store[i] for i in range(len(store))]).tolist() == stream.tolist()
    assert store[-1].tolist() == stream[-5:].tolist()
    assert store.num_tokens == len(stream)
    assert store.max_token_id() == int(stream.max())
    with pytest.raises(IndexError):
        store[len(store)]


def test_a_dropped_tail_is_counted_and_a_tail_of_one_is_never_kept(tmp_path: Path):
    size = write(tmp_path / "c", np.arange(21, dtype=np.uint16), block_size=8, keep_tail=False)
    assert (size.num_blocks, size.tail_tokens, size.dropped_tokens) == (2, 0, 5)
    size = write(tmp_path / "d", np.arange(17, dtype=np.uint16), block_size=8)
    assert (size.num_blocks, size.tail_tokens, size.dropped_tokens) == (2, 0, 1)
    assert len(BlockStore(tmp_path / "d")) == 2


def test_a_text_shorter_than_a_block_is_one_short_block(tmp_path: Path):
    write(tmp_path, np.arange(5, dtype=np.uint16), block_size=8)
    store = BlockStore(tmp_path)
    assert len(store) == 1
    assert store[0].tolist() == [0, 1, 2, 3, 4]


def test_a_span_reads_the_stream_as_a_ring(tmp_path: Path):
    stream = np.arange(21, dtype=np.uint16)
    write(tmp_path, stream, block_size=8)
    store = BlockStore(tmp_path)
    ring = np.concatenate([stream, stream])
    for start in range(21):
        for length in (1, 7, 8, 21):
            assert store.span(start, length).tolist() == ring[start : start + length].tolist()


def test_datasets_opens_the_same_file(tmp_path: Path):
    from datasets import Dataset

    stream = np.arange(100, dtype=np.uint16)
    write(tmp_path, stream, block_size=8)
    rows = Dataset.from_file(str(tmp_path / "train.arrow"))
    assert np.array(rows["input_ids"]).ravel().tolist() == stream[:96].tolist()


def test_a_committed_store_is_whole_or_not_there(tmp_path: Path):
    write(tmp_path / "staging", np.arange(20, dtype=np.uint16), block_size=8)
    final = tmp_path / "final"
    assert read_ledger(final) is None
    commit_store(tmp_path / "staging", final, ledger={"documents": 1})
    ledger = read_ledger(final)
    assert ledger is not None
    assert ledger["documents"] == 1
    assert not (tmp_path / "staging").exists()
    arrow = final / "train.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-1])
    assert read_ledger(final) is None
    arrow.unlink()
    assert read_ledger(final) is None
    with pytest.raises(DataError, match="can't be read"):
        BlockStore(final)


def test_the_first_of_two_equal_stores_stays(tmp_path: Path):
    for name in ("one", "two"):
        write(tmp_path / name, np.arange(20, dtype=np.uint16), block_size=8)
        commit_store(tmp_path / name, tmp_path / "final", ledger={"from": name})
    ledger = read_ledger(tmp_path / "final")
    assert ledger is not None
    assert ledger["from"] == "one"
    assert not (tmp_path / "two").exists()
