"""An Arrow table and its place in a file -> the text of each row."""

from collections.abc import Iterator
from typing import Any

from gptft.documents.records import RecordText
from gptft.errors import DataError


def check_table(schema: Any, *, name: str, record_text: RecordText) -> None:
    """See that a table has the columns a text needs, and that they hold text.

    Args:
        schema: a pyarrow.Schema.
        name: what the table is called in messages.
        record_text: how a row becomes a text.

    Raises:
        DataError: a column is missing, there twice, or of another type; one of nulls alone passes,
            since `read_table` names the row.
    """
    import pyarrow as pa

    of = pa.types
    passing = (of.is_string, of.is_large_string, of.is_string_view, of.is_null)
    for field in record_text.fields:
        if field not in schema.names:
            raise record_text.missing(field, schema.names, name)
        if (number := schema.names.count(field)) > 1:
            raise DataError(f"{name} has {number} columns named {field!r}. Rename all but one.")
        kind = schema.field(field).type
        if of.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_kind(kind) for is_kind in passing):
            raise DataError(
                f"{name}: the column {field!r} is of type {kind}, not string. Write it as strings, "
                f"or name another column in data.text_field or data.template."
            )


def read_table(table: Any, *, name: str, first_row: int, record_text: RecordText) -> Iterator[str]:
    """The texts of the rows of a table that `check_table` passed.

    Args:
        table: a pyarrow.Table or RecordBatch.
        name: what it is called in messages.
        first_row: the number of its first row there.
        record_text: how a row becomes a text.

    Raises:
        DataError: a text is null, or its bytes aren't UTF-8.
    """
    fields = record_text.fields
    try:
        columns = [table.column(field).to_pylist() for field in fields]
    except UnicodeDecodeError as error:
        last = first_row + table.num_rows - 1
        raise DataError(
            f"{name}: a text in rows {first_row:,} to {last:,} isn't UTF-8 ({error.reason}). Write "
            f"the file again with its texts in UTF-8."
        ) from None
    for row, values in enumerate(zip(*columns, strict=True), start=first_row):
        yield record_text.of(dict(zip(fields, values, strict=True)), f"{name}, row {row:,}")
