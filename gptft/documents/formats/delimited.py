"""Rows of cells under a header, separated by commas or tabs -> the text of each row."""

import csv
import re
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any

from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.records import D, RecordReader, split_lines
from gptft.errors import DataError
from gptft.terminal.words import count
from gptft.text.streams import content_suffix

_LONGEST_CELL = 2**31 - 1  # the most that fits the C long of every platform
_SEPARATORS = re.compile(r"[,;|\t]")


def read_rows(file: OpenedFile, reader: RecordReader[D]) -> Iterator[D]:
    """The texts of a file's rows, by RFC 4180, but that LF alone ends a line too."""
    delimiter = "\t" if content_suffix(file.path) == ".tsv" else ","
    rows = _rows(file.chunks, file.name, delimiter=delimiter)
    where, header = next(rows, (file.name, []))
    if not header:
        return
    columns = _columns(header, where, reader)
    for where, cells in rows:
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {count(len(cells), 'cell')} where the header has {len(header):,}. Put "
                f"quotes around a cell that holds {delimiter!r}, or mend the row."
            )
        yield reader.of({field: cells[at] for field, at in columns.items()}, where)


def _columns(header: Sequence[str], where: str, reader: RecordReader[Any]) -> dict[str, int]:
    """Where each field that is needed stands in a row."""
    if len(header) == 1 and (found := _SEPARATORS.search(header[0])):
        raise DataError(
            f"{where}: the header is one cell, {reprlib.repr(header[0])}. Its cells seem to be "
            f"separated by {found[0]!r}: .csv takes commas, .tsv tabs."
        )
    fields = reader.columns(header, f"{where}: the header")
    for field in fields:
        if (times := header.count(field)) > 1:
            raise DataError(
                f"{where}: the header names {field!r} {times} times. Rename all but one."
            )
    return {field: header.index(field) for field in fields}


def _rows(chunks: Iterator[str], name: str, *, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Every row that isn't blank, with the file:line where it begins."""
    # The longest cell is a setting of the whole process. It is raised and stays so: two files read
    # in turns would lower it under each other, and nothing here relies on its being low.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    lines = (f"{line}\n" for line in split_lines(chunks))  # a quoted cell keeps its line ends
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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


FORMAT = Format((".csv", ".tsv"), "a row, by the header's names", read_rows)
