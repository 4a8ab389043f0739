"""The documents of a split -> blocks that they are fitted into, on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptft.data.best_fit import Fit, Numbers, fit_blocks
from gptft.data.marked_ids import Flags, is_trained, strip
from gptft.data.row_files import Rows, write_rows
from gptft.data.split import PlacedDocuments, Split, SplitName
from gptft.data.store import BATCH_BLOCKS, SplitSize
from gptft.tokenization.token_ids import TokenIds


class Framing(NamedTuple):
    """The ids around documents.

    Attributes:
        bos: before each, maybe none.
        eos_token_id: after each, and in padding.
    """

    bos: Sequence[int]
    eos_token_id: int


def write_fitted(
    split: Split,
    folder: Path,
    *,
    name: SplitName,
    framing: Framing,
    block_size: int,
    dtype: type[np.unsignedinteger],
    keep_tail: bool,
) -> SplitSize:
    """Fit the documents of a split into `folder/name.arrow`, the emptiest block into `-tail.arrow`.

    Other blocks are padded with EOS. Blocks are gathered a batch at a time: of tokens no more than
    that is in memory, of documents a few numbers each.

    Args:
        split: the documents; those of `name` are counted.
        folder: an existing folder.
        name: which of them.
        framing: the ids around each.
        block_size: tokens a block.
        dtype: what ids are stored as.
        keep_tail: write the emptiest block, where it isn't full; otherwise its tokens are dropped.
    """
    placed = split.placed(name)
    lengths = placed.tokens + len(framing.bos)
    if not len(lengths):
        return SplitSize(0, 0, 0)
    fit = fit_blocks(lengths, block_size=block_size)
    blocks = _Blocks(split.mapped_ids(), placed, fit, framing, is_marked=split.is_marked)
    num_full = len(fit.stops) - fit.is_tail_short
    counts = split.counts[name]
    padding = trained = 0

    def counted(rows: Rows) -> Rows:
        nonlocal trained
        counts.max_token_id = max(counts.max_token_id, int(rows.ids.max()))
        trained += 0 if rows.trained is None else int(rows.trained.sum())
        return rows

    def batches() -> Iterator[Rows]:
        nonlocal padding
        for first in range(0, num_full, BATCH_BLOCKS):
            rows = blocks.rows(first, min(first + BATCH_BLOCKS, num_full), block_size)
            padding += rows.ids.size - (0 if rows.lengths is None else int(rows.lengths.sum()))
            yield counted(rows)

    none = blocks.rows(0, 0, block_size)
    write_rows(folder / f"{name}.arrow", batches(), like=none, dtype=dtype)
    tail = int(lengths.sum()) - num_full * block_size + padding
    if tail and keep_tail:
        last = counted(blocks.rows(num_full, num_full + 1, tail))
        write_rows(folder / f"{name}-tail.arrow", [last], like=last, dtype=dtype)
    kept = tail if keep_tail else 0
    return SplitSize(num_full, kept, tail - kept, padding, trained, fit.num_split)


class _Blocks:
    """Blocks of documents, gathered from where their ids are."""

    def __init__(
        self,
        mapped: Sequence[TokenIds],
        placed: PlacedDocuments,
        fit: Fit,
        framing: Framing,
        *,
        is_marked: bool,
    ) -> None:
        self._mapped, self._placed, self._fit, self._framing = mapped, placed, fit, framing
        self._is_marked = is_marked

    def rows(self, first: int, stop: int, length: int) -> Rows:
        """Blocks `first` to `stop`, padded to `length`."""
        stops, fit = self._fit.stops, self._fit
        begin = int(stops[first - 1]) if first else 0
        some = slice(begin, int(stops[stop - 1]) if stop else 0)
        documents, offsets, lengths = fit.documents[some], fit.offsets[some], fit.lengths[some]
        num_rows = stop - first
        last = stops[first:stop] - begin - 1  # of each row, its last piece
        filled = np.diff(np.cumsum(lengths)[last], prepend=0)
        stretched = lengths.copy()  # the last piece of a row reaches over its padding
        stretched[last] += length - filled
        starts = np.cumsum(stretched) - stretched  # where pieces begin in the batch
        ids = self._gathered(documents, offsets, stretched, starts)
        self._put_bos(ids, offsets, lengths, starts)
        ids = ids.reshape(num_rows, length)
        begins: Flags = np.zeros(num_rows * length, dtype=bool)
        begins[starts] = True
        begins = begins.reshape(num_rows, length)
        continues: Flags | None = None
        if fit.num_split:
            continues = np.zeros(num_rows * length, dtype=bool)
            continues[starts[offsets > 0]] = True
            continues = continues.reshape(num_rows, length)
        short = np.flatnonzero(filled < length)
        begins[short, filled[short]] = True
        for row in short.tolist():
            ids[row, filled[row] :] = self._framing.eos_token_id  # without a mark
        trained = is_trained(ids) if self._is_marked else None
        ids = strip(ids) if self._is_marked else ids
        return Rows(ids, begins, trained, filled.astype(np.int32), continues)

    def _gathered(
        self, documents: Numbers, offsets: Numbers, lengths: Numbers, starts: Numbers
    ) -> TokenIds:
        """The ids of pieces in a row; anything where BOS or padding stands."""
        sources = self._placed.starts[documents] + offsets - len(self._framing.bos)
        encoded = self._placed.encoded[documents]
        places = np.repeat(sources - starts, lengths)
        places += np.arange(len(places))
        numbers = np.unique(encoded).tolist()
        if len(numbers) == 1:
            # Padding may reach beyond the last document, BOS before the first.
            taken: TokenIds = self._mapped[numbers[0]].take(places, mode="clip")
            return taken
        ids: TokenIds = np.zeros(len(places), self._mapped[0].dtype)
        owners = np.repeat(encoded, lengths)
        for number in numbers:
            mine = owners == number
            ids[mine] = self._mapped[number].take(places[mine], mode="clip")
        return ids

    def _put_bos(self, ids: TokenIds, offsets: Numbers, lengths: Numbers, starts: Numbers) -> None:
        for number, bos in enumerate(self._framing.bos):
            has = (offsets <= number) & (number < offsets + lengths)
            ids[starts[has] + number - offsets[has]] = bos
