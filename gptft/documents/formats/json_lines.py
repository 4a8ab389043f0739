"""JSON Lines -> the text of each line's object."""

import json
import reprlib
from collections.abc import Iterator

from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.records import D, RecordReader, split_lines, type_name
from gptft.errors import DataError


def read_json_lines(file: OpenedFile, reader: RecordReader[D]) -> Iterator[D]:
    """The texts of a file with a JSON object a line; blank lines are skipped."""
    for number, line in enumerate(split_lines(file.chunks), start=1):
        where = f"{file.name}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.strip():
                continue
            raise _not_json(error, line, where, first=number == 1) from None
        if type(record) is not dict:
            raise DataError(
                f"{where} is {type_name(record)} ({reprlib.repr(record)}), not an object. Each "
                f'line must be one JSON object, such as {{"text": "..."}}.'
            )
        yield reader.of(record, where)


def _not_json(error: Exception, line: str, where: str, *, first: bool) -> DataError:
    """What is wrong with a line that json refused."""
    if not isinstance(error, json.JSONDecodeError):
        return beyond_json(error, where)
    way_out = "Each line must be one whole JSON object."
    if "\r" in line.rstrip("\r"):
        way_out = "Its lines seem to end in CR: set data.line_ends: lf."
    elif first and line.lstrip().startswith("["):
        way_out = "If the file is one JSON array of records, name it .json."
    return DataError(f"{where}: not JSON (column {error.colno:,}: {error.msg}). {way_out}")


def beyond_json(error: Exception, where: str) -> DataError:
    """What is wrong with JSON that is well formed and yet can't be read."""
    if isinstance(error, RecursionError):
        return DataError(f"{where}: JSON nested too deeply to be read. Leave that record out.")
    return DataError(
        f"{where}: a number too long to be read. Leave it out, or write it as a string."
    )


FORMAT = Format(
    (".jsonl", ".ndjson"),
    "a line: its field `text_field` (`text`), or its fields joined by `template`",
    read_json_lines,
)
