"""An Arrow table and its place in a file -> the text of each row."""

from collections.abc import Iterator
from typing import Any

from gptft.documents.records import D, RecordReader
from gptft.errors import DataError


def check_table(schema: Any, *, name: str, reader: RecordReader[Any]) -> None:
    """See that a table has the columns a document needs, and that they hold what it is made of.

    Args:
        schema: a pyarrow.Schema.
        name: what the table is called in messages.
        reader: makes a document of a row.

    Raises:
        DataError: a column is missing, there twice, or of another type; one of nulls alone passes,
            since `read_table` names the row.
    """
    for field in reader.columns(schema.names, name):
        if (number := schema.names.count(field)) > 1:
            raise DataError(f"{name} has {number} columns named {field!r}. Rename all but one.")
        if problem := reader.type_problem(field, schema.field(field).type):
            raise DataError(f"{name}: the column {field!r} {problem}")


def read_table(table: Any, *, name: str, first_row: int, reader: RecordReader[D]) -> Iterator[D]:
    """The documents of the rows of a table that `check_table` passed.

    Args:
        table: a pyarrow.Table or RecordBatch.
        name: what it is called in messages.
        first_row: the number of its first row there.
        reader: makes a document of a row.

    Raises:
        DataError: a text is null, or its bytes aren't UTF-8.
    """
    fields = reader.columns(table.schema.names, name)
    try:
        columns = [table.column(field).to_pylist() for field in fields]
    except UnicodeDecodeError as error:
        last = first_row + table.num_rows - 1
        raise DataError(
            f"{name}: a text in rows {first_row:,} to {last:,} isn't UTF-8 ({error.reason}). Write "
            f"the file again with its texts in UTF-8."
        ) from None
    for row, values in enumerate(zip(*columns, strict=True), start=first_row):
        yield reader.of(dict(zip(fields, values, strict=True)), f"{name}, row {row:,}")
