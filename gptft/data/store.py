"""Streams of token ids -> a folder of Arrow files, complete or absent, and the blocks back.

A split is one Arrow stream of fixed-size rows, its shorter tail another; `ledger.json` is written
last. `datasets` opens the same files with `Dataset.from_file`. pyarrow takes a moment to import, so
only the functions that write or read blocks do.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gptft.files as files
from gptft.data.packing import pack_stream
from gptft.errors import DataError
from gptft.tokenization.token_ids import TokenIds

if TYPE_CHECKING:
    import pyarrow as pa

LEDGER = "ledger.json"
_ON_DISK = "files_on_disk"
_CHECKSUM: files.Checksum = "xxh3_128"
_OWN_CHECKSUM = "ledger_xxh3_128"
_STAGING = ".staging-"
_LOCK = "lock"
_GRACE_SECONDS = 60
BATCH_BLOCKS = 1024  # blocks a record batch: 2 MB of uint16 at a block of 1,024


@dataclass(frozen=True)
class SplitSize:
    """How much one split of a store holds.

    Attributes:
        num_blocks: full blocks.
        tail_tokens: tokens kept beyond the last full block.
        dropped_tokens: tokens beyond the last full block that were not kept.
    """

    num_blocks: int
    tail_tokens: int
    dropped_tokens: int


def write_split(
    arrays: Iterable[TokenIds],
    folder: Path,
    *,
    split: str,
    block_size: int,
    dtype: type[np.unsignedinteger],
    keep_tail: bool,
) -> SplitSize:
    """Pack a stream of token ids into `folder/split.arrow`, and its tail into `split-tail.arrow`.

    A tail of one token is never kept: with nothing before it, it can't be predicted.

    Args:
        arrays: documents' ids, each of shape (n,), each ended by EOS.
        folder: an existing folder.
        split: `train` or `validation`.
        block_size: tokens a block.
        dtype: what ids are stored as.
        keep_tail: write the last, shorter block; otherwise its tokens count as dropped.
    """
    num_blocks = 0
    tail: TokenIds = np.zeros(0, dtype=dtype)

    def full_blocks() -> Iterator[TokenIds]:
        nonlocal num_blocks, tail
        for blocks, tail in pack_stream(  # noqa: B007
            arrays, block_size=block_size, rows=BATCH_BLOCKS
        ):
            if len(blocks):
                num_blocks += len(blocks)
                yield blocks

    _write_stream(folder / f"{split}.arrow", full_blocks(), block_size, dtype)
    kept = len(tail) if keep_tail and len(tail) > 1 else 0
    if kept:
        _write_stream(folder / f"{split}-tail.arrow", [tail], kept, dtype)
    return SplitSize(num_blocks, kept, len(tail) - kept)


def _write_stream(
    path: Path, batches: Iterable[TokenIds], length: int, dtype: type[np.unsignedinteger]
) -> None:
    """Write batches of rows of `length` ids each as one Arrow stream."""
    import pyarrow as pa

    value_type = pa.from_numpy_dtype(np.dtype(dtype))
    schema = pa.schema([("input_ids", pa.list_(value_type, length))])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            flat = np.ascontiguousarray(batch, dtype=dtype).ravel()
            # Over the same memory: `pa.array` would import pandas.
            ids = pa.Array.from_buffers(value_type, len(flat), [None, pa.py_buffer(flat)])
            rows = pa.FixedSizeListArray.from_arrays(ids, length)
            writer.write_batch(pa.record_batch([rows], schema=schema))


class BlockStore:
    """Read access to one split of a block store, memory-mapped.

    `len(store)` is its blocks, the tail included; `store[i]` is the token ids of block i, of shape
    (block_size,), or shorter for the tail, which comes last. `num_blocks` counts the full ones,
    `num_tokens` the tokens of all.
    """

    def __init__(self, folder: Path, *, split: str = "train") -> None:
        """Open `split` of the store in `folder`.

        Raises:
            DataError: the split is missing or can't be read.
        """
        try:
            self._batches = [_values(batch) for batch in _open(folder / f"{split}.arrow")]
            tail = folder / f"{split}-tail.arrow"
            self._tail = [_values(batch) for batch in _open(tail)] if tail.is_file() else []
        except (OSError, ValueError) as error:  # Arrow's own is a ValueError
            raise DataError(
                f"The block store {folder} can't be read ({error}). Delete that folder and "
                "prepare again."
            ) from None
        self.num_blocks = sum(len(batch) for batch in self._batches)
        self.num_tokens = sum(int(batch.size) for batch in (*self._batches, *self._tail))

    def __len__(self) -> int:
        return self.num_blocks + len(self._tail)

    def __getitem__(self, index: int) -> TokenIds:
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        index %= len(self)
        batch = self._batches[index // BATCH_BLOCKS] if index < self.num_blocks else self._tail[0]
        block: TokenIds = batch[index % BATCH_BLOCKS if index < self.num_blocks else 0]
        return block

    def span(self, start: int, length: int) -> TokenIds:
        """Tokens of the whole stream, read as a ring: after the last comes the first.

        Args:
            start: the first token's place in the stream; beyond its end it goes round.
            length: how many, at most `num_tokens`.

        Returns:
            shape (length,).
        """
        block_size = len(self[0])
        stretches = []
        while length > 0:
            row, column = divmod(start % self.num_tokens, block_size)
            stretch = self[row][column : column + length]
            stretches.append(stretch)
            start, length = start + len(stretch), length - len(stretch)
        return np.concatenate(stretches) if len(stretches) > 1 else stretches[0]

    def max_token_id(self) -> int:
        """The highest id in the store; -1 for an empty one. Reads every block."""
        return max((int(b.max()) for b in (*self._batches, *self._tail) if b.size), default=-1)


def _open(path: Path) -> "list[pa.RecordBatch]":
    import pyarrow as pa

    return list(pa.ipc.open_stream(pa.memory_map(str(path))))


def _values(batch: "pa.RecordBatch") -> TokenIds:
    """A record batch's ids as a (rows, tokens) view of the mapped file."""
    column = batch.column("input_ids")
    values: TokenIds = column.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), -1)


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """An empty folder below `parent` for what isn't finished yet; it is gone in the end.

    What processes that were killed have left behind is removed first: a lock tells theirs from
    those of processes at work.

    Raises:
        DataError: `parent` can't be written.
    """
    from filelock import FileLock  # it brings asyncio along, which takes a moment

    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        root = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
    except OSError as error:
        raise DataError(
            f"The cache folder {parent} can't be written: {error.strerror}. "
            "Set GPTFT_CACHE to a folder that can."
        ) from None
    lock = FileLock(root / _LOCK)
    try:
        with lock:
            (root / "store").mkdir()
            yield root / "store"
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    from filelock import FileLock

    for root in parent.glob(f"{_STAGING}*"):
        with suppress(OSError):  # a lock that is held is one, too
            if time.time() - root.stat().st_mtime < _GRACE_SECONDS:
                continue  # perhaps not locked yet
            with FileLock(root / _LOCK, timeout=0):
                shutil.rmtree(root, ignore_errors=True)


def commit_store(staging: Path, final: Path, *, ledger: dict[str, Any]) -> None:
    """Turn a finished staging folder into the store `final`, in one rename.

    `ledger.json` gets the size and checksum of every file and a checksum of its own, so that damage
    is noticed later.
    When another process has committed the same store meanwhile, its copy stays and ours goes; what
    is damaged, or has another version's ledger, makes way.
    """
    content = {**ledger, _ON_DISK: files.seal_files(staging, _CHECKSUM)}
    content[_OWN_CHECKSUM] = _checksum_of_ledger(content)
    files.write_json(staging / LEDGER, content)
    try:
        staging.rename(final)
    except OSError:
        if not final.exists():  # nothing is in the way: the disk is full, say
            raise
        same = (read_ledger(final) or {}).keys() == content.keys()
        if same and find_damage(final) is None:
            shutil.rmtree(staging)
            return
        shutil.rmtree(final)  # in the way, and damaged or of another version
        staging.rename(final)
    files.sync_folder(final.parent)


def read_ledger(folder: Path) -> dict[str, Any] | None:
    """The ledger of a store; None where there is none, or a file of it is missing or cut."""
    try:
        ledger = files.read_json(folder / LEDGER)
        entries = ledger[_ON_DISK].items()
        is_damaged = any(files.size_problem(folder / name, entry) for name, entry in entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if is_damaged else ledger


def find_damage(folder: Path) -> str | None:
    """What is wrong with a store, or None where every byte is as it was committed.

    Reads all of it, at the speed of the disk.
    """
    ledger = read_ledger(folder)
    if ledger is None:
        return f"{LEDGER} or a file it names is missing or cut"
    if _checksum_of_ledger(ledger) != ledger.get(_OWN_CHECKSUM):
        return f"{LEDGER} isn't what was written"
    for name, entry in ledger[_ON_DISK].items():
        if problem := files.byte_problem(folder / name, entry, _CHECKSUM):
            return f"{name} {problem}"
    return None


def _checksum_of_ledger(ledger: Mapping[str, Any]) -> str:
    """Of all a ledger says, this checksum aside."""
    content = {name: value for name, value in ledger.items() if name != _OWN_CHECKSUM}
    return files.json_checksum(content, _CHECKSUM)
