"""A JSON file of objects, in an array or one after another -> the text of each, streamed."""

import json
import re
import reprlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.formats.json_lines import beyond_json
from gptft.documents.records import D, RecordReader
from gptft.errors import DataError

_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_NEAR_END = 16  # longer than any JSON literal or escape, which the end of a chunk may cut in two


def read_json(file: OpenedFile, reader: RecordReader[D]) -> Iterator[D]:
    """The texts of a file's objects; what is held is a chunk and the object being read."""
    text = _JsonText(file.chunks, file.name)
    in_array = text.peek() == "["
    if in_array:
        for record, where in _array(text):
            yield reader.of(record, where)
        return
    sequence = _sequence(text)
    for number, (record, where) in enumerate(sequence):
        if number == 0 and (lists := _lists_of_records(record, reader)) and not text.peek():
            yield from _texts_within(lists, where, reader)
            return
        yield reader.of(record, where)


def _lists_of_records(
    record: Mapping[str, Any], reader: RecordReader[Any]
) -> Mapping[str, list[Mapping[str, Any]]]:
    """What a file's only object holds, where it isn't a record and lists of records are in it."""
    if reader.fits(record):
        return {}
    return {
        name: value
        for name, value in record.items()
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    }


def _texts_within(
    lists: Mapping[str, list[Mapping[str, Any]]], where: str, reader: RecordReader[D]
) -> Iterator[D]:
    if len(lists) > 1:
        names = [*map(reprlib.repr, lists)]
        first, file = next(iter(lists)), where.rpartition(":")[0]
        command = f"jq .{shlex.quote(first)} {shlex.quote(file)} > {shlex.quote(f'{first}.json')}"
        raise DataError(
            f"{where}: an object with {len(lists)} lists of records, {', '.join(names)}. Write the "
            f"one to train on as a file of its own: {command}"
        )
    ((name, records),) = lists.items()
    for number, record in enumerate(records, start=1):
        yield reader.of(record, f"{where}, record {number:,} of {reprlib.repr(name)}")


class _JsonText:
    """JSON text in chunks, read value by value."""

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

        What is cut off by the end of a chunk is read again once twice as much is there, so that a
        long value is read over no more than twice.
        """
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError as error:
                cut_off = error.pos >= len(self._text) - _NEAR_END
                if self._ended or not (cut_off or error.msg.startswith("Unterminated string")):
                    where = self.where(error.pos)
                    column = error.pos - self._line_start + 1
                    raise DataError(
                        f"{where}: not JSON (column {column:,}: {error.msg}). A .json file must "
                        f"hold one array of objects, or objects one after another."
                    ) from None
            except (ValueError, RecursionError) as error:
                raise beyond_json(error, self.where()) from None
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

    def _grow(self) -> None:
        """At least double the text that is not read yet, and drop what is read."""
        self.where()
        pending = len(self._text) - self._at
        parts, more = [self._text[self._at :]], 0
        while not self._ended and more <= pending:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            parts.append(chunk or "")
            more += len(chunk or "")
        self._line_start -= self._at
        self._text, self._at, self._counted = "".join(parts), 0, 0


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


FORMAT = Format(
    (".json",),
    "an object, as in `.jsonl`; they stand in one array, in the only list of one object "
    '(`{"data": [...]}`), or one after another',
    read_json,
)
