"""Rows of token ids, and what is known of each token -> an Arrow stream on disk, and back.

A row is a block. Plain text has its ids alone; other columns stand beside them where documents are
fitted into blocks, or some tokens are not trained on. pyarrow takes a moment to import, so only the
functions that write or read do.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gptft.data.marked_ids import Flags, begins, is_trained, strip
from gptft.tokenization.token_ids import TokenIds

if TYPE_CHECKING:
    import pyarrow as pa

FlagColumn = Literal["begins", "trained", "continues"]
Lengths = npt.NDArray[np.int32]

_IDS, _BEGINS, _TRAINED, _LENGTH = "input_ids", "begins", "trained", "length"
_CONTINUES = "continues"


class Rows(NamedTuple):
    """Some rows of one length.

    Attributes:
        ids: shape (R, T).
        begins: the first token of each document, of each further piece of a split one, and of the
            padding; shape (R, T), or None.
        trained: tokens that are trained on, shape (R, T), or None where that is all.
        lengths: the tokens of each row before its padding, shape (R,), or None without padding.
        continues: of `begins`, the first tokens of further pieces, shape (R, T); None where no
            document is split.
    """

    ids: TokenIds
    begins: Flags | None = None
    trained: Flags | None = None
    lengths: Lengths | None = None
    continues: Flags | None = None

    @classmethod
    def of_marked(cls, ids: TokenIds) -> "Rows":
        """Rows of marked ids, shape (R, T); see `gptft.data.marked_ids`."""
        return cls(strip(ids), begins(ids), is_trained(ids))

    @property
    def names(self) -> list[str]:
        """The columns that there are."""
        columns = zip((_IDS, _BEGINS, _TRAINED, _LENGTH, _CONTINUES), self, strict=True)
        return [name for name, column in columns if column is not None]


def write_rows(
    path: Path, batches: Iterable[Rows], *, like: Rows, dtype: type[np.unsignedinteger]
) -> None:
    """Write batches of rows as one Arrow stream.

    Args:
        path: the file.
        batches: with the columns and the row length of `like`.
        like: rows, perhaps none.
        dtype: what ids are stored as.
    """
    import pyarrow as pa

    length = like.ids.shape[1]
    value_type = pa.from_numpy_dtype(np.dtype(dtype))
    flags = pa.list_(pa.bool_(), length)
    types = {_IDS: pa.list_(value_type, length), _LENGTH: pa.int32()}
    schema = pa.schema([(name, types.get(name, flags)) for name in like.names])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for rows in batches:
            ids = np.ascontiguousarray(rows.ids, dtype=dtype).ravel()
            arrays = [_lists(value_type, ids, len(ids), length)]
            for column in (rows.begins, rows.trained):
                if column is not None:
                    arrays.append(_bits(column))
            if rows.lengths is not None:
                arrays.append(_values(pa.int32(), rows.lengths.astype(np.int32), len(rows.lengths)))
            if rows.continues is not None:
                arrays.append(_bits(rows.continues))
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _lists(value_type: "pa.DataType", values: npt.NDArray[Any], size: int, length: int) -> Any:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(_values(value_type, values, size), length)


def _bits(column: Flags) -> Any:
    import pyarrow as pa

    packed = np.packbits(column, bitorder="little")
    return _lists(pa.bool_(), packed, column.size, column.shape[1])


def _values(value_type: "pa.DataType", values: npt.NDArray[Any], size: int) -> Any:
    """An array over the same memory: `pa.array` would import pandas."""
    import pyarrow as pa

    return pa.Array.from_buffers(value_type, size, [None, pa.py_buffer(values)])


class RowBatch:
    """Some rows of a file, mapped.

    Attributes:
        ids: shape (R, T), padding among them.
        lengths: as `Rows` has them.
    """

    def __init__(self, batch: "pa.RecordBatch") -> None:
        """Take a record batch that `write_rows` wrote."""
        column = batch.column(_IDS)
        values: TokenIds = column.flatten().to_numpy(zero_copy_only=True)
        self.ids: TokenIds = values.reshape(len(column), -1)
        names = batch.schema.names
        self.lengths: Lengths | None = None
        if _LENGTH in names:
            self.lengths = batch.column(_LENGTH).to_numpy(zero_copy_only=True)
        self._bits: dict[str, tuple[npt.NDArray[np.uint8], int]] = {}
        for name in (_BEGINS, _TRAINED, _CONTINUES):
            if name in names:
                flat = batch.column(name).flatten()
                self._bits[name] = np.frombuffer(flat.buffers()[1], np.uint8), flat.offset

    def has(self, column: FlagColumn) -> bool:
        """Whether there is such a column."""
        return column in self._bits

    def flags(self, column: FlagColumn, row: int) -> Flags:
        """A column's flags of one row, shape (T,)."""
        packed, offset = self._bits[column]
        length = self.ids.shape[1]
        start = offset + row * length
        stop = start + length
        bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")
        return bits[start % 8 : start % 8 + length].view(np.bool_)


def columns_of(path: Path) -> list[str]:
    """The names of the columns of a file that `write_rows` wrote; no row is looked at."""
    import pyarrow as pa

    names: list[str] = pa.ipc.open_stream(pa.memory_map(str(path))).schema.names
    return names


def open_rows(path: Path) -> list[RowBatch]:
    """The batches of a file that `write_rows` wrote."""
    import pyarrow as pa

    return [RowBatch(batch) for batch in pa.ipc.open_stream(pa.memory_map(str(path)))]
