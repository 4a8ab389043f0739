import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from gptft.data import store as module
from gptft.data.store import (
    BATCH_BLOCKS,
    BlockStore,
    SplitSize,
    commit_store,
    find_damage,
    read_ledger,
    staging_folder,
    write_split,
)
from gptft.errors import DataError


def write(
    folder: Path, stream: np.ndarray, *, block_size: int, keep_tail: bool = True
) -> SplitSize:
    folder.mkdir(exist_ok=True)
    return write_split(
        iter(np.array_split(stream, 7)),
        folder,
        split="train",
        block_size=block_size,
        dtype=np.uint16,
        keep_tail=keep_tail,
    )


def test_what_is_written_is_what_is_read(tmp_path: Path):
    stream = np.arange(
        BATCH_BLOCKS * 8 * 2 + 8 * 3 + 5, dtype=np.uint16
    )  # more than two record batches
    size = write(tmp_path, stream, block_size=8)
    store = BlockStore(tmp_path)
    assert (size.num_blocks, size.tail_tokens, size.dropped_tokens) == (BATCH_BLOCKS * 2 + 3, 5, 0)
    assert len(store) == BATCH_BLOCKS * 2 + 4
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


def test_a_store_that_cant_be_put_in_place_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def rename(path: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    write(tmp_path / "staging", np.arange(21, dtype=np.uint16), block_size=8)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space left on device") as caught:
        commit_store(tmp_path / "staging", tmp_path / "final", ledger={})
    assert caught.value.errno == errno.ENOSPC


class TestDamage:
    """Every byte of a store is as it was committed, or it is noticed."""

    @pytest.fixture
    def final(self, tmp_path: Path) -> Path:
        write(tmp_path / "staging", np.arange(21, dtype=np.uint16), block_size=8)
        (tmp_path / "staging" / "tokenizer").mkdir()
        (tmp_path / "staging" / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")
        ledger = {"documents": 1, "named": {"longest": ["ёж.txt"]}, "place": (1, 2), "share": 0.1}
        commit_store(tmp_path / "staging", tmp_path / "final", ledger=ledger)
        return tmp_path / "final"

    def test_none_where_there_is_none(self, final: Path):
        assert find_damage(final) is None
        names = {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file()}
        assert names == {
            "ledger.json",
            "tokenizer/tokenizer.json",
            "train-tail.arrow",
            "train.arrow",
        }

    @pytest.mark.parametrize("name", ["ledger.json", "train.arrow", "train-tail.arrow"])
    def test_a_flipped_bit_anywhere(self, final: Path, name: str):
        raw = (final / name).read_bytes()
        for place in range(0, len(raw), 3):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << place % 8
            (final / name).write_bytes(flipped)
            assert name in (find_damage(final) or ""), place
        (final / name).write_bytes(raw)
        assert find_damage(final) is None

    def test_another_number_in_the_ledger(self, final: Path):
        path = final / "ledger.json"
        path.write_text(
            path.read_text(encoding="utf-8").replace('"documents": 1', '"documents": 3'),
            encoding="utf-8",
        )
        assert find_damage(final) == "ledger.json isn't what was written"

    @pytest.mark.parametrize("name", ["train.arrow", "tokenizer/tokenizer.json"])
    @pytest.mark.parametrize("harm", ["missing", "emptied", "cut", "longer", "changed", "a folder"])
    def test_of_a_file(self, final: Path, name: str, harm: str):
        path = final / name
        raw = path.read_bytes()
        path.unlink()
        if harm == "a folder":
            path.mkdir()
        elif harm != "missing":
            harmed = {"emptied": b"", "cut": raw[:-1], "longer": raw + b"\0"}
            path.write_bytes(harmed.get(harm, raw[:-1] + bytes([raw[-1] ^ 128])))
        assert find_damage(final) is not None
        assert (read_ledger(final) is None) == (harm != "changed")

    @pytest.mark.parametrize(
        "content",
        [
            *("", "{", "[]", "null", '"a"', "{}", '{"files_on_disk": 3}'),
            '{"files_on_disk": {}}',
            '{"files_on_disk": {"a": 1}}',
            '{"files_on_disk": {"train.arrow": {"size": null}}}',
        ],
    )
    def test_of_the_ledger(self, final: Path, content: str):
        (final / "ledger.json").write_text(content, encoding="utf-8")
        assert find_damage(final) is not None

    def test_a_damaged_store_in_the_way_is_replaced_and_a_whole_one_stays(
        self, final: Path, tmp_path: Path
    ):
        (final / "train.arrow").write_bytes(b"")
        write(tmp_path / "again", np.arange(21, dtype=np.uint16), block_size=8)
        commit_store(tmp_path / "again", final, ledger={"from": "again"})
        assert find_damage(final) is None
        assert (read_ledger(final) or {})["from"] == "again"
        assert not (final / "tokenizer").exists()

    def test_a_store_of_another_time_is_damaged(self, final: Path):
        """One whose ledger knows nothing of checksums is never trusted."""
        ledger = json.loads((final / "ledger.json").read_text(encoding="utf-8"))
        ledger["files_on_disk"] = {n: e["size"] for n, e in ledger["files_on_disk"].items()}
        (final / "ledger.json").write_text(json.dumps(ledger), encoding="utf-8")
        assert find_damage(final) is not None


class TestStaging:
    """What isn't whole yet is out of sight, and gone in the end."""

    def left_behind(self, parent: Path, *, age: float) -> Path:
        root = parent / ".staging-killed"
        (root / "store").mkdir(parents=True)
        (root / "store" / "train.arrow").write_bytes(b"half")
        (root / "lock").touch()
        os.utime(root, (time.time() - age,) * 2)
        return root

    def test_is_gone_afterwards(self, tmp_path: Path):
        with staging_folder(tmp_path / "blocks") as staging:
            (staging / "file").touch()
            assert staging.parent.name.startswith(".staging-")
        assert list((tmp_path / "blocks").iterdir()) == []
        with pytest.raises(KeyboardInterrupt), staging_folder(tmp_path / "blocks"):
            raise KeyboardInterrupt
        assert list((tmp_path / "blocks").iterdir()) == []

    def test_two_at_once_do_not_meet(self, tmp_path: Path):
        with staging_folder(tmp_path) as one, staging_folder(tmp_path) as two:
            assert one != two
            assert one.is_dir()
            assert two.is_dir()

    def test_of_a_killed_process_is_removed(self, tmp_path: Path):
        root = self.left_behind(tmp_path, age=61)
        with staging_folder(tmp_path):
            assert not root.exists()

    def test_without_a_lock_yet_is_removed_too_when_old(self, tmp_path: Path):
        root = self.left_behind(tmp_path, age=61)
        (root / "lock").unlink()
        os.utime(root, (time.time() - 61,) * 2)
        with staging_folder(tmp_path):
            assert not root.exists()

    def test_of_a_process_that_has_just_begun_stays(self, tmp_path: Path):
        root = self.left_behind(tmp_path, age=30)
        with staging_folder(tmp_path):
            assert root.exists()

    def test_of_a_process_at_work_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        root = self.left_behind(tmp_path, age=3600)
        with FileLock(root / "lock"), staging_folder(tmp_path):
            assert (root / "store" / "train.arrow").exists()
        monkeypatch.setattr(module, "_GRACE_SECONDS", 0)
        with staging_folder(tmp_path) as ours, staging_folder(tmp_path):
            assert ours.exists()
            assert not root.exists()

    def test_where_nothing_can_be_written_is_refused(self, tmp_path: Path):
        (tmp_path / "blocks").write_text("a file", encoding="utf-8")
        with (
            pytest.raises(DataError, match=r"cache folder .* can't be written: .*GPTFT_CACHE"),
            staging_folder(tmp_path / "blocks"),
        ):
            pass


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=8),
    block_size=st.integers(2, 30),
    keep_tail=st.booleans(),
    rows=st.integers(1, 4),
)
def test_every_token_is_in_a_block_the_tail_or_dropped(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    block_size: int,
    keep_tail: bool,
    rows: int,
):
    folder = tmp_path_factory.mktemp("part")
    stream = np.arange(sum(lengths), dtype=np.uint16)
    arrays = np.split(stream, np.cumsum(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_BLOCKS", rows)
        size = write_split(
            iter(arrays),
            folder,
            split="train",
            block_size=block_size,
            dtype=np.uint16,
            keep_tail=keep_tail,
        )
        store = BlockStore(folder)
        read = [int(i) for n in range(len(store)) for i in store[n]]
    num_blocks, rest = divmod(len(stream), block_size)
    kept = rest if keep_tail and rest > 1 else 0
    assert size == SplitSize(num_blocks, kept, rest - kept)
    assert read == list(range(num_blocks * block_size + kept))
