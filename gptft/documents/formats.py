"""Records in a file -> the text of each document.

In: the decoded text of a .jsonl, .ndjson, .json, .csv or .tsv file in pieces of any length, or the
path of a .parquet file. Out: one text a record, in order, streamed: what is held is a piece and the
record being read. Nothing is converted or guessed: a text is a string in the file, or it is an
error with its line. Must not import torch, transformers, pandas or datasets; pyarrow only inside
the functions that read tables.
"""

import csv
import json
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any, NoReturn

from gptft.errors import DataError

RECORD_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"})

_MAX_NAMED = 5  # so many fields are named in a message, the rest are counted
_LONGEST_CELL = 2**31 - 1  # the most that fits the C long of every platform
_ROWS_A_BATCH = 1024
_PARQUET_BUFFER = 1 << 20  # bytes; else a row group's whole column is held, 90 MB of a 170 MB file
_SEPARATORS = re.compile(r"[,;|\t]")
_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_NEAR_END = 16  # longer than any JSON literal or escape, which the end of a piece may cut in two
_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True)
class RecordText:
    r"""How a record becomes a document's text.

    Attributes:
        text_field: the field that is the text, where there is no template.
        template: fields in braces put together; `{{` and `}}` are literal braces. Names stand for
            themselves: `{a.b}` is the field "a.b".

    >>> RecordText(template="{title}\n{body}").of({"title": "Зима", "body": "Снег."}, "a:1")
    'Зима\nСнег.'
    """

    text_field: str = "text"
    template: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields a record must have, each once, in the order they are first named."""
        if self.template is None:
            return (self.text_field,)
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @cached_property
    def _parts(self) -> tuple[tuple[str, str | None], ...]:
        """The template as literal texts, each with the field after it."""
        return tuple((part[0], part[1]) for part in Formatter().parse(self.template or ""))

    def of(self, record: Mapping[str, Any], where: str) -> str:
        """The text of one record.

        Args:
            record: its fields.
            where: the record's place, for messages: file:line.

        Raises:
            DataError: a field is missing, null, not text, or not Unicode.
        """
        if self.template is None:
            return self._field(record, self.text_field, where)
        pieces = []
        for literal, name in self._parts:
            pieces.append(literal)
            if name is not None:
                pieces.append(self._field(record, name, where))
        return "".join(pieces)

    def missing(self, field: str, there: Collection[str], where: str) -> DataError:
        """The error for a record at `where` that has the fields `there`, but not `field`."""
        return DataError(
            f"{where} has no field {field!r}, only {_named(there)}. Name the field that holds the "
            f"text in data.text_field, or put several together with data.template."
        )

    def _field(self, record: Mapping[str, Any], name: str, where: str) -> str:
        value = record.get(name)
        if type(value) is not str:
            self._refuse(record, name, where)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: the field {name!r} holds half a character, "
                f"\\u{ord(value[error.start]):04x} at character {error.start + 1:,}, which can't "
                f"be written as UTF-8. Mend that record or leave it out."
            ) from None
        return value

    def _refuse(self, record: Mapping[str, Any], name: str, where: str) -> NoReturn:
        if name not in record:
            raise self.missing(name, record, where)
        if record[name] is None:
            raise DataError(
                f"{where}: the field {name!r} is null. Leave that record out, or name another "
                f"field in data.text_field or data.template."
            )
        value = record[name]
        raise DataError(
            f"{where}: the field {name!r} is {_kind(value)} ({reprlib.repr(value)}), not text. "
            f"Write it as a string, or name another field in data.text_field or data.template."
        )


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"of type {type(value).__name__}")


def _named(fields: Collection[str]) -> str:
    """The first fields by name, the rest counted."""
    if not fields:
        return "none at all"
    shown = [reprlib.repr(field) for field in list(fields)[:_MAX_NAMED]]
    more = f" and {len(fields) - _MAX_NAMED:,} more" if len(fields) > _MAX_NAMED else ""
    return ", ".join(shown) + more


def read_records(
    chunks: Iterator[str], *, suffix: str, name: str, record_text: RecordText
) -> Iterator[str]:
    """The texts of the records in a decoded text file, one by one.

    Args:
        chunks: the file's text in pieces of any length, without a byte order mark.
        suffix: one of RECORD_SUFFIXES but .parquet; how the file is read.
        name: the file's name, for messages.
        record_text: how a record becomes a text.

    Returns:
        the texts, empty ones too; none for an empty file. `chunks` is read only as far as they are.

    Raises:
        DataError: at the first record that can't be read, with its line and the way out.
    """
    return _READERS[suffix](chunks, name, record_text)


def _read_json_lines(chunks: Iterator[str], name: str, record_text: RecordText) -> Iterator[str]:
    for number, line in enumerate(_lines(chunks), start=1):
        where = f"{name}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.strip():
                continue
            raise _not_json(error, line, where, first=number == 1) from None
        if type(record) is not dict:
            raise DataError(
                f"{where} is {_kind(record)} ({reprlib.repr(record)}), not an object. Each line "
                f'must be one JSON object, such as {{"text": "..."}}.'
            )
        yield record_text.of(record, where)


def _not_json(error: Exception, line: str, where: str, *, first: bool) -> DataError:
    """What is wrong with a line that json refused."""
    if not isinstance(error, json.JSONDecodeError):
        return _beyond_json(error, where)
    way_out = "Each line must be one whole JSON object."
    if "\r" in line.rstrip("\r"):
        way_out = "Its lines seem to end in CR: set data.line_ends: lf."
    elif first and line.lstrip().startswith("["):
        way_out = "If the file is one JSON array of records, name it .json."
    return DataError(f"{where}: not JSON (column {error.colno:,}: {error.msg}). {way_out}")


def _beyond_json(error: Exception, where: str) -> DataError:
    """What is wrong with JSON that is well formed and yet can't be read."""
    if isinstance(error, RecursionError):
        return DataError(f"{where}: JSON nested too deeply to be read. Leave that record out.")
    return DataError(
        f"{where}: a number too long to be read. Leave it out, or write it as a string."
    )


def _lines(chunks: Iterator[str]) -> Iterator[str]:
    r"""Cut at "\n" and nowhere else: U+2028 and U+0085 may stand inside a JSON string.

    A "\r" before it stays, which JSON and csv both take as part of the line's end.
    """
    rest: list[str] = []
    for chunk in chunks:
        first, *lines = chunk.split("\n")
        rest.append(first)
        if lines:
            last = lines.pop()
            yield "".join(rest)
            yield from lines
            rest = [last]
    tail = "".join(rest)
    if tail:
        yield tail


class _JsonText:
    """JSON text that comes in pieces, read value by value."""

    def __init__(self, chunks: Iterator[str], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0  # how far self._text is read
        self._ended = False
        self._line = 1  # of self._counted
        self._counted = 0  # newlines before it are in self._line
        self._line_start = 0  # where that line begins; negative where that is dropped already

    def peek(self) -> str:
        """The next character that isn't white space; "" at the end of the file."""
        while True:
            end = _JSON_SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            self._at = end
            if end < len(self._text):
                return self._text[end]
            if self._ended:
                return ""
            self._grow()

    def skip(self) -> None:
        """Step over the character that `peek` showed."""
        self._at += 1

    def value(self) -> Any:
        """Read the value that begins where `peek` looked.

        What is cut off by the end of a piece is read again once twice as much is there, so that a
        long value is read over no more than twice.
        """
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError as error:
                cut_off = error.pos >= len(self._text) - _NEAR_END
                if self._ended or not (cut_off or error.msg.startswith("Unterminated string")):
                    where, column = self.where(error.pos), self._column(error.pos)
                    raise DataError(
                        f"{where}: not JSON (column {column:,}: {error.msg}). A .json file must "
                        f"hold one array of objects, or objects one after another."
                    ) from None
            except (ValueError, RecursionError) as error:
                raise _beyond_json(error, self.where()) from None
            self._grow()

    def where(self, at: int | None = None) -> str:
        """file:line of a place in the text held, which is never before the last one asked for."""
        at = self._at if at is None else at
        lines = self._text.count("\n", self._counted, at)
        if lines:
            self._line += lines
            self._line_start = self._text.rfind("\n", self._counted, at) + 1
        self._counted = at
        return f"{self._name}:{self._line}"

    def _column(self, at: int) -> int:
        return at - self._line_start + 1

    def _grow(self) -> None:
        """At least double the text that is not read yet, and drop what is read."""
        self.where()
        pending = len(self._text) - self._at
        pieces, more = [self._text[self._at :]], 0
        while not self._ended and more <= pending:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            pieces.append(chunk or "")
            more += len(chunk or "")
        self._line_start -= self._at
        self._text, self._at, self._counted = "".join(pieces), 0, 0


def _read_json(chunks: Iterator[str], name: str, record_text: RecordText) -> Iterator[str]:
    text = _JsonText(chunks, name)
    in_array = text.peek() == "["
    for record, where in _array(text) if in_array else _sequence(text):
        yield record_text.of(record, where)


def _array(text: _JsonText) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The objects of an array, each with its file:line."""
    opened = text.where()
    text.skip()
    follows = text.peek()
    while follows != "]":
        if not follows:
            raise DataError(
                f"{text.where()}: the file ends inside the array that begins at {opened}. It seems "
                f"cut off; get it again, or end it with ]."
            )
        yield _object(text)
        follows = text.peek()
        if follows == ",":
            text.skip()
            follows = text.peek()
            if follows == "]":
                raise DataError(f"{text.where()}: a comma before the array's end. Take it out.")
        elif follows and follows != "]":
            raise DataError(
                f"{text.where()}: {follows!r} after an object of the array, where a comma or ] "
                f"must stand."
            )
    text.skip()
    if follows := text.peek():
        raise DataError(
            f"{text.where()}: {follows!r} after the array's end. Take out what is there."
        )


def _sequence(text: _JsonText) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Objects one after another, each with its file:line."""
    while text.peek():
        yield _object(text)


def _object(text: _JsonText) -> tuple[Mapping[str, Any], str]:
    where, first = text.where(), text.peek()
    if first != "{":
        found = repr(first) if first else "the end of the file"
        raise DataError(
            f"{text.where()}: {found} where a record must begin with {{. A .json file must hold "
            f"one array of objects, or objects one after another."
        )
    return text.value(), where


def _read_csv(chunks: Iterator[str], name: str, record_text: RecordText) -> Iterator[str]:
    return _read_cells(chunks, name, record_text, delimiter=",")


def _read_tsv(chunks: Iterator[str], name: str, record_text: RecordText) -> Iterator[str]:
    return _read_cells(chunks, name, record_text, delimiter="\t")


def _read_cells(
    chunks: Iterator[str], name: str, record_text: RecordText, *, delimiter: str
) -> Iterator[str]:
    """Rows under a header; the rules of RFC 4180, but that LF alone ends a line too."""
    rows = _rows(chunks, name, delimiter=delimiter)
    where, header = next(rows, (name, []))
    if not header:
        return
    columns = _columns(header, where, record_text)
    for where, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {_cells(len(cells))} where the header has {len(header):,}. Put quotes "
                f"around a cell that holds {delimiter!r}, or mend the row."
            )
        yield record_text.of({field: cells[at] for field, at in columns.items()}, where)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count:,} cells"


def _columns(header: Sequence[str], where: str, record_text: RecordText) -> dict[str, int]:
    """Where each field that is needed stands in a row."""
    if len(header) == 1 and (found := _SEPARATORS.search(header[0])):
        raise DataError(
            f"{where}: the header is one cell, {reprlib.repr(header[0])}. Its cells seem to be "
            f"separated by {found[0]!r}: .csv takes commas, .tsv tabs."
        )
    for field in record_text.fields:
        if field not in header:
            raise record_text.missing(field, header, f"{where}: the header")
        if header.count(field) > 1:
            raise DataError(
                f"{where}: the header names {field!r} {header.count(field)} times. "
                f"Rename all but one."
            )
    return {field: header.index(field) for field in record_text.fields}


def _rows(chunks: Iterator[str], name: str, *, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Every row that isn't blank, with the file:line where it begins."""
    # The longest cell is a setting of the whole process. It is raised and stays so: two files read
    # in turns would lower it under each other, and nothing here relies on its being low.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    reader = csv.reader(_whole_lines(chunks), delimiter=delimiter, strict=True)
    while True:
        where = f"{name}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _not_csv(error, where, reader.line_num) from None
        if cells:
            yield where, cells


def _whole_lines(chunks: Iterator[str]) -> Iterator[str]:
    """Lines with their ends, which a quoted cell keeps."""
    return (f"{line}\n" for line in _lines(chunks))


def _not_csv(error: csv.Error, where: str, line: int) -> DataError:
    """What is wrong with a record that csv refused; `line` is where it noticed."""
    message = str(error)
    if message.startswith("new-line character"):
        return DataError(f"{where}: a line that ends in CR alone. Set data.line_ends: lf.")
    if message.startswith("unexpected end"):
        return DataError(
            f"{where}: a quote opened in the record that begins here is never closed. Close it; a "
            f'quote inside a quoted cell is written twice ("").'
        )
    if "expected after" in message:
        return DataError(
            f"{where}: text after a closing quote in line {line:,} of the record that begins here. "
            f'A quote inside a quoted cell is written twice ("").'
        )
    return DataError(f"{where}: not CSV ({message}).")


_READERS: Mapping[str, Callable[[Iterator[str], str, RecordText], Iterator[str]]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}


def read_parquet(path: Path, *, record_text: RecordText) -> Iterator[str]:
    """The texts of a Parquet file's rows, batch by batch.

    Raises:
        DataError: the file can't be opened or is broken; a column is missing or isn't text; a text
            is null. Rows are counted from 1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 1
    try:
        with pq.ParquetFile(
            path, memory_map=False, buffer_size=_PARQUET_BUFFER, pre_buffer=False
        ) as file:
            check_table(file.schema_arrow, name=str(path), record_text=record_text)
            columns = list(record_text.fields)
            for batch in file.iter_batches(columns=columns, batch_size=_ROWS_A_BATCH):
                yield from read_table(batch, name=str(path), first_row=row, record_text=record_text)
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        after = f" after row {row - 1:,}" if row > 1 else ""
        raise DataError(f"{path} can't be read as Parquet{after}: {reason}") from None


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

    for field in record_text.fields:
        if field not in schema.names:
            raise record_text.missing(field, schema.names, name)
        if schema.names.count(field) > 1:
            raise DataError(
                f"{name} has {schema.names.count(field)} columns named {field!r}. "
                f"Rename all but one."
            )
        kind = schema.field(field).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not _is_text(kind) and not pa.types.is_null(kind):
            raise DataError(
                f"{name}: the column {field!r} is of type {kind}, not string. Write it as strings, "
                f"or name another column in data.text_field or data.template."
            )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    is_view = getattr(pa.types, "is_string_view", lambda _: False)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_view(kind))


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
