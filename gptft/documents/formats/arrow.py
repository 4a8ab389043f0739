"""An Arrow file, as `datasets` saves them -> the text of each row."""

from collections.abc import Iterator
from typing import Any

from gptft.documents.arrow_tables import check_table, read_table
from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.records import D, RecordReader
from gptft.errors import DataError


def read_arrow(file: OpenedFile, reader: RecordReader[D]) -> Iterator[D]:
    """The texts of an Arrow stream's or file's rows, batch by batch; rows are counted from 1.

    Raises:
        DataError: the file can't be opened or is broken; a column is missing or isn't text; a text
            is null.
    """
    import pyarrow as pa

    path, row = file.path, 1
    try:
        with pa.OSFile(str(path)) as opened:
            for batch in _batches(opened):
                if row == 1:
                    check_table(batch.schema, name=str(path), reader=reader)
                yield from read_table(batch, name=str(path), first_row=row, reader=reader)
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        after = f" after row {row - 1:,}" if row > 1 else ""
        raise DataError(f"{path} can't be read as Arrow{after}: {reason}") from None


def _batches(opened: Any) -> Iterator[Any]:
    """The batches of a stream, which `datasets` writes, or of a file with an index."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_stream(opened)
    except pa.ArrowInvalid:
        opened.seek(0)
        reader = pa.ipc.open_file(opened)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        return
    yield from reader


FORMAT = Format((".arrow",), "a row; the column must be strings", read_arrow, is_binary=True)
