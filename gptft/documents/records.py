"""A record's fields -> a document's text. Nothing is converted: a text is a string, or an error."""

import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any, Protocol, TypeVar

from gptft.errors import DataError
from gptft.terminal.words import first_of

_ANOTHER_FIELD = "name another field in data.text_field or data.template"
_MAX_NAMED = 5  # so many fields are named in a message, the rest are counted
_KINDS: Mapping[type, str] = {
    str: "a string", bool: "true or false", int: "a number", float: "a number", list: "a list",
    dict: "an object", type(None): "null",
}  # fmt: skip


D = TypeVar("D", covariant=True)


class RecordReader(Protocol[D]):
    """What makes a document of a record."""

    def columns(self, there: Collection[str], where: str) -> tuple[str, ...]:
        """The fields it reads, each once, of those that are there.

        Raises:
            DataError: one that it needs isn't there; `where` is the header's or the schema's place.
        """

    def fits(self, there: Collection[str]) -> bool:
        """Whether a record of these fields has all that is needed."""

    def type_problem(self, column: str, kind: Any) -> str | None:
        """Why a column of an Arrow type can't be read, to follow its name; None where it can."""

    def of(self, record: Mapping[str, Any], where: str) -> D:
        """The document of one record.

        Args:
            record: its fields.
            where: the record's place, for messages: file:line.

        Raises:
            DataError: a field is missing, or isn't what it must be.
        """


@dataclass(frozen=True)
class RecordText:
    r"""How a record becomes a document's text.

    Attributes:
        text_field: the field that is the text, where there is no template.
        template: fields in braces put together; `{{` and `}}` are literal braces. `{a.b}` is the
            field "a.b", or where there is none, the field "b" of the object "a"; `{a.0}` is the
            first of the list "a".

    >>> RecordText(template="{title}\n{body}").of({"title": "Зима", "body": "Снег."}, "a:1")
    'Зима\nСнег.'
    >>> RecordText(template="{poem.lines.0}").of({"poem": {"lines": ["Мороз"]}}, "a:1")
    'Мороз'
    """

    text_field: str = "text"
    template: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields a record must have, each once, in the order they are first named."""
        return tuple(dict.fromkeys(name for _, name in self._fragments if name is not None))

    def columns(self, there: Collection[str], where: str) -> tuple[str, ...]:
        """See `RecordReader`; of a field within another it is the outer one."""
        return tuple(dict.fromkeys(self._column(name, there, where) for name in self.fields))

    def _column(self, name: str, there: Collection[str], where: str) -> str:
        outer = name.partition(".")[0]
        if name in there:
            return name
        if self.template is None or outer not in there:
            raise self.missing(name, there, where)
        return outer

    def fits(self, there: Collection[str]) -> bool:
        """See `RecordReader`."""
        is_template = self.template is not None
        return all(
            name in there or (is_template and name.partition(".")[0] in there)
            for name in self.fields
        )

    def type_problem(self, column: str, kind: Any) -> str | None:
        """See `RecordReader`: it must be text, or hold the field that is meant."""
        import pyarrow as pa

        of = pa.types
        passing = (of.is_string, of.is_large_string, of.is_string_view, of.is_null)
        kind = kind.value_type if of.is_dictionary(kind) else kind
        if column not in self.fields or any(is_kind(kind) for is_kind in passing):
            return None
        return (
            f"is of type {kind}, not string. Write it as strings, or name another column in "
            "data.text_field or data.template."
        )

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
        value = record[name] if name in record else self._within(record, name, where)
        return checked_text(value, f"{where}: the field {name!r}", another=_ANOTHER_FIELD)

    def _within(self, record: Mapping[str, Any], name: str, where: str) -> Any:
        """The field that a name with dots leads to."""
        value: Any = record
        for step in name.split(".") if self.template is not None else [name]:
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            elif value is record:
                raise self.missing(name, record, where)
            else:
                there = f"{type_name(value)} without {step!r}"
                if isinstance(value, list):
                    there = f"a list of {len(value):,}, and {step!r} is none of them"
                raise DataError(
                    f"{where} has no field {name!r}: on the way there is {there}. Mend that "
                    "record, or name another field in data.template."
                )
        return value


def checked_text(value: Any, what: str, *, another: str = "") -> str:
    """A value that must be text.

    Args:
        value: of a record.
        what: the place and the field, which a message begins with.
        another: what else could be done where it isn't text, to follow "or".

    Raises:
        DataError: it is null, of another type, or can't be written as UTF-8.
    """
    otherwise = f", or {another}" if another else ""
    if value is None:
        problem, way_out = "is null", f"Leave that record out{otherwise}"
    elif type(value) is not str:
        problem = f"is {type_name(value)} ({reprlib.repr(value)}), not text"
        way_out = f"Write it as a string{otherwise}"
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
    raise DataError(f"{what} {problem}. {way_out}.")


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
