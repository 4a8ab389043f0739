"""A record's fields -> a document's text. Nothing is converted: a text is a string, or an error."""

import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any

from gptft.errors import DataError
from gptft.terminal.words import first_of

_MAX_NAMED = 5  # so many fields are named in a message, the rest are counted
_KINDS: Mapping[type, str] = {
    str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list",
    dict: "an object", type(None): "null",
}  # fmt: skip


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
        return tuple(dict.fromkeys(name for _, name in self._fragments if name is not None))

    @cached_property
    def _fragments(self) -> tuple[tuple[str, str | None], ...]:
        """The template as literal texts, each with the field after it."""
        if self.template is None:
            return (("", self.text_field),)
        return tuple((literal, name) for literal, name, *_ in Formatter().parse(self.template))

    def of(self, record: Mapping[str, Any], where: str) -> str:
        """The text of one record.

        Args:
            record: its fields.
            where: the record's place, for messages: file:line.

        Raises:
            DataError: a field is missing, null, not text, or not Unicode.
        """
        return "".join(
            literal + (self._field(record, name, where) if name is not None else "")
            for literal, name in self._fragments
        )

    def missing(self, field: str, there: Collection[str], where: str) -> DataError:
        """The error for a record at `where` that has the fields `there`, but not `field`."""
        return DataError(
            f"{where} has no field {field!r}, only {_named(there)}. Name the field that holds the "
            f"text in data.text_field, or put several together with data.template."
        )

    def _field(self, record: Mapping[str, Any], name: str, where: str) -> str:
        if name not in record:
            raise self.missing(name, record, where)
        value, another = record[name], "name another field in data.text_field or data.template"
        if value is None:
            problem, way_out = "is null", f"Leave that record out, or {another}"
        elif type(value) is not str:
            problem = f"is {type_name(value)} ({reprlib.repr(value)}), not text"
            way_out = f"Write it as a string, or {another}"
        else:
            try:
                value.encode()
                return value
            except UnicodeEncodeError as error:
                problem = (
                    f"holds half a character, \\u{ord(value[error.start]):04x} at character "
                    f"{error.start + 1:,}, which can't be written as UTF-8"
                )
                way_out = "Mend that record or leave it out"
        raise DataError(f"{where}: the field {name!r} {problem}. {way_out}.")


def type_name(value: object) -> str:
    """What JSON calls a value, with its article."""
    return _KINDS.get(type(value), f"of type {type(value).__name__}")


def _named(fields: Collection[str]) -> str:
    return first_of([*map(reprlib.repr, fields)], _MAX_NAMED) if fields else "none at all"


def split_lines(chunks: Iterator[str]) -> Iterator[str]:
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
