"""A Parquet file -> the text of each row."""

from collections.abc import Iterator

from gptft.documents.arrow_tables import check_table, read_table
from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.records import D, RecordReader
from gptft.errors import DataError

_ROWS_A_BATCH = 1024
_BUFFER_BYTES = 1 << 20  # else a row group's whole column is held, 90 MB of a 170 MB file


def read_parquet(file: OpenedFile, reader: RecordReader[D]) -> Iterator[D]:
    """The texts of a Parquet file's rows, batch by batch; rows are counted from 1.

    Raises:
        DataError: the file can't be opened or is broken; a column is missing or isn't text; a text
            is null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, row = file.path, 1
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            check_table(table.schema_arrow, name=str(path), reader=reader)
            columns = list(reader.columns(table.schema_arrow.names, str(path)))
            for batch in table.iter_batches(columns=columns, batch_size=_ROWS_A_BATCH):
                yield from read_table(batch, name=str(path), first_row=row, reader=reader)
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        after = f" after row {row - 1:,}" if row > 1 else ""
        raise DataError(f"{path} can't be read as Parquet{after}: {reason}") from None


FORMAT = Format((".parquet",), "a row; the column must be strings", read_parquet, is_binary=True)
