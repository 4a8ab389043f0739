"""Streams of token ids -> a folder of Arrow files, complete or absent, and the blocks back.

A split is one Arrow stream of fixed-size rows, its shorter tail another; `ledger.json` is written
last. `datasets` opens the same files with `Dataset.from_file`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gptft.files as files
from gptft.data.marked_ids import Flags
from gptft.data.packing import pack_stream
from gptft.data.row_files import (
    FlagColumn,
    Lengths,
    RowBatch,
    Rows,
    columns_of,
    open_rows,
    write_rows,
)
from gptft.errors import DataError
from gptft.tokenization.token_ids import TokenIds

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
        num_blocks: full blocks, padding among their tokens.
        tail_tokens: tokens kept beyond the last full block.
        dropped_tokens: tokens beyond the last full block that were not kept.
        padding_tokens: that fill up blocks.
        trained_tokens: that are trained on, where not all are.
        split_documents: longer than a block, and so split.
    """

    num_blocks: int
    tail_tokens: int
    dropped_tokens: int
    padding_tokens: int = 0
    trained_tokens: int = 0
    split_documents: int = 0


def write_split(
    arrays: Iterable[TokenIds],
    folder: Path,
    *,
    split: str,
    block_size: int,
    dtype: type[np.unsignedinteger],
    keep_tail: bool,
    as_rows: Callable[[TokenIds], Rows] = Rows,
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
        as_rows: of ids of shape (R, T); `Rows.of_marked` where they are marked.
    """
    num_blocks = num_trained = 0
    tail: TokenIds = np.zeros(0, dtype=dtype)

    def full_blocks() -> Iterator[Rows]:
        nonlocal num_blocks, num_trained, tail
        for blocks, tail in pack_stream(  # noqa: B007
            arrays, block_size=block_size, rows=BATCH_BLOCKS
        ):
            if len(blocks):
                rows = as_rows(blocks)
                num_blocks += len(blocks)
                num_trained += 0 if rows.trained is None else int(rows.trained.sum())
                yield rows

    none = as_rows(np.zeros((0, block_size), dtype=np.uint32))
    write_rows(folder / f"{split}.arrow", full_blocks(), like=none, dtype=dtype)
    kept = len(tail) if keep_tail and len(tail) > 1 else 0
    if kept:
        last = as_rows(tail[None])
        num_trained += 0 if last.trained is None else int(last.trained.sum())
        write_rows(folder / f"{split}-tail.arrow", [last], like=last, dtype=dtype)
    return SplitSize(num_blocks, kept, len(tail) - kept, trained_tokens=num_trained)


class BlockStore:
    """Read access to one split of a block store, memory-mapped.

    `len(store)` is its blocks, the tail included; `store[i]` is the token ids of block i without
    padding, of shape (T,): T is `block_size` unless it is padded, or the tail, which comes last.

    Attributes:
        num_blocks: how many blocks are full, or padded to be.
        num_tokens: the tokens of all blocks, padding left out.
        is_fitted: whether documents are fitted into blocks, and no stream.
        is_masked: whether some tokens are not trained on.
    """

    def __init__(self, folder: Path, *, split: str = "train") -> None:
        """Open `split` of the store in `folder`.

        Raises:
            DataError: the split is missing or can't be read.
        """
        try:
            self._batches = open_rows(folder / f"{split}.arrow")
            tail = folder / f"{split}-tail.arrow"
            self._tail = open_rows(tail) if tail.is_file() else []
        except (OSError, ValueError, KeyError) as error:  # Arrow's own is a ValueError
            raise DataError(
                f"The block store {folder} can't be read ({error}). Delete that folder and "
                "prepare again."
            ) from None
        both = [*self._batches, *self._tail]
        self.num_blocks = sum(len(batch.ids) for batch in self._batches)
        self.is_fitted = any(batch.lengths is not None for batch in both)
        self.is_masked = any(batch.has("trained") for batch in both)
        # Of a stream the places of rows are multiples, however many there are.
        self._stops = (
            np.cumsum(np.concatenate([_lengths(b) for b in both])) if self.is_fitted else None
        )
        self.num_tokens = (
            int(self._stops[-1]) if self._stops is not None else sum(b.ids.size for b in both)
        )

    def __len__(self) -> int:
        return self.num_blocks + len(self._tail)

    def __getitem__(self, index: int) -> TokenIds:
        batch, row = self._row(index)
        block: TokenIds = batch.ids[row]
        return block if batch.lengths is None else block[: batch.lengths[row]]

    @property
    def block_size(self) -> int:
        """Tokens of a full block; of a store that has none, those of its shorter one."""
        both = [*self._batches, *self._tail]
        return int(both[0].ids.shape[1]) if both else 0

    def length(self, index: int) -> int:
        """Tokens of a block, padding left out."""
        return len(self[index])

    def begins(self, index: int) -> Flags | None:
        """Which tokens of a block, shape (T,), are the first of a document or of a piece of one.

        None where the store doesn't say.
        """
        return self._flags("begins", index)

    def continues(self, index: int) -> Flags | None:
        """Which of them are the first of a further piece; None where no document is split."""
        return self._flags("continues", index)

    def trained(self, index: int) -> Flags | None:
        """Which tokens of a block, shape (T,), are trained on; None where all are."""
        return self._flags("trained", index)

    def span(self, start: int, length: int) -> TokenIds:
        """Tokens of all blocks as one stream, read as a ring: after the last comes the first.

        Args:
            start: the first token's place in the stream; beyond its end it goes round.
            length: how many, at most `num_tokens`.

        Returns:
            shape (length,).
        """
        pieces = self._pieces(start, length)
        found = [self[row][column : column + size] for row, column, size in pieces]
        return np.concatenate(found) if len(found) != 1 else found[0]

    def flag_span(self, column: FlagColumn, start: int, length: int) -> Flags | None:
        """What `begins` or `trained` say of the tokens of a span; None without such a column."""
        found: list[Flags] = []
        for row, at, size in self._pieces(start, length):
            if (flags := self._flags(column, row)) is None:
                return None
            found.append(flags[at : at + size])
        return np.concatenate(found) if found else None

    def place(self, start: int) -> tuple[int, int]:
        """The block that a place in the stream lies in, and the place in that block."""
        start %= self.num_tokens
        if self._stops is None:
            return divmod(start, self.block_size)
        row = int(np.searchsorted(self._stops, start, side="right"))
        return row, start - (int(self._stops[row - 1]) if row else 0)

    def max_token_id(self) -> int:
        """The highest id in the store; -1 for an empty one. Reads every block."""
        both = [*self._batches, *self._tail]
        return max((int(b.ids.max()) for b in both if b.ids.size), default=-1)

    def _row(self, index: int) -> tuple[RowBatch, int]:
        """The batch of a block, and its row there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        index %= len(self)
        if index >= self.num_blocks:
            return self._tail[0], 0
        return self._batches[index // BATCH_BLOCKS], index % BATCH_BLOCKS

    def _flags(self, column: FlagColumn, index: int) -> Flags | None:
        batch, row = self._row(index)
        if not batch.has(column):
            return None
        return batch.flags(column, row)[: len(self[index])]

    def _pieces(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Row, first column and tokens of each part of a span."""
        while length > 0:
            row, column = self.place(start)
            size = min(len(self[row]) - column, length)
            yield row, column, size
            start, length = start + size, length - size


def tells_pieces(folder: Path) -> bool:
    """Whether a store says which parts of its blocks are further pieces of split documents."""
    return any("continues" in columns_of(path) for path in folder.glob("*.arrow"))


def _lengths(batch: RowBatch) -> Lengths:
    if batch.lengths is not None:
        return batch.lengths
    return np.full(len(batch.ids), batch.ids.shape[1], np.int32)


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
