"""A setting's type, range, default and meaning -> values read, or what is wrong with them.

pydantic reads the values and writes the schema; it is imported at the first value, since help texts
are made of settings, too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from annotated_types import BaseMetadata, Interval, Len, MinLen

from gptft.config.numbers import (
    LARGEST,
    LARGEST_WHOLE,
    as_number,
    as_whole,
    bounded,
    read_whole,
)
from gptft.config.suggest import did_you_mean
from gptft.terminal.words import short_value, wrong_value

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

_NO_BOUNDS = (LARGEST, LARGEST_WHOLE)  # which no help or table names
# A bound in words, by the type of pydantic's error and by what its context calls the bound.
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


@dataclass(frozen=True)
class Kind:
    """What values a setting has; part of its type, where pydantic looks for how to read it.

    Attributes:
        name: as `--json` has it.
        words: what a value must be, in a message.
        short: the same in a table's cell.
        before: makes of a value what pydantic is to read; ValueError where it can't.
        after: makes of what was read what it means.
    """

    name: str
    words: str
    short: str
    before: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """The schema of the type with `before` and `after` around it."""
        from pydantic_core import core_schema

        schema = handler(source)
        if self.before is not None:
            schema = core_schema.no_info_before_validator_function(self.before, schema)
        if self.after is not None:
            schema = core_schema.no_info_after_validator_function(self.after, schema)
        return schema


def _exact(value: Any) -> Any:
    """A number that YAML takes for one; text that looks like one is left for pydantic to refuse."""
    return value if isinstance(value, str) else as_number(value)


def _flag(value: Any) -> Any:
    """True or false, of which pydantic would read 1, 0, "yes" and "no" as well; or never."""
    if not isinstance(value, bool) and value != "never":
        raise ValueError("neither true nor false")
    return value


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _weights(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError("not a mapping")
    weights = {str(key): as_number(number) for key, number in value.items()}
    if "" in weights:
        raise ValueError("an empty text")
    return weights


def _decay(value: list[float]) -> list[float]:
    return [read_whole(value[0]), value[1]]


# A Kind is the last in a type: pydantic must see the bounds on the number itself, or its JSON
# Schema (2.14) has `ge` in place of `minimum`.
def number(**bounds: float) -> Any:
    """The type of a number within bounds, by pydantic's names: ge, gt, le, lt."""
    limits = bounded(*Interval(**bounds), largest=LARGEST)
    return Annotated[float, *limits, Kind("float", "a number", "number", before=as_number)]


def whole(**bounds: int) -> Any:
    """The type of a whole number within bounds."""
    limits = bounded(*Interval(**bounds), largest=LARGEST_WHOLE)
    return Annotated[int, *limits, Kind("int", "a whole number", "whole number", before=read_whole)]


def exact(*bounds: BaseMetadata) -> Any:
    """The type of a number within `bounds`; no text that looks like one."""
    limits = bounded(*bounds, largest=LARGEST)
    return Annotated[float, *limits, Kind("float", "a number", "number", before=_exact)]


def or_null(of: Any) -> Any:
    """A type, or null, which stands for its being left out."""
    kind: Kind = get_args(of)[-1]
    return Annotated[of | None, Kind(kind.name, f"{kind.words} or null", kind.short)]


def exact_whole(*bounds: BaseMetadata) -> Any:
    """The type of a whole number within `bounds`; no text that looks like one."""
    limits = bounded(*bounds, largest=LARGEST_WHOLE)
    return Annotated[int, *limits, Kind("int", "a whole number", "whole number", before=as_whole)]


def whole_numbers(**bounds: int) -> Any:
    """The type of a list of whole numbers, each within bounds; one alone is a list of one."""
    kind = Kind("ints", "a list of whole numbers", "whole numbers", after=_as_list)
    item: Any = whole(**bounds)
    return Annotated[item | list[item], kind]


def one_of(*choices: str) -> Any:
    """The type of a text that is one of `choices`."""
    literal: Any = Literal
    return Annotated[literal[choices], Kind("text", "text", "text")]


_TextItem = Annotated[str, MinLen(1)]
Flag = Annotated[bool, Kind("bool", "true or false", "true or false", before=_flag)]
Text = Annotated[_TextItem, Kind("text", "text", "text")]
Texts = Annotated[
    _TextItem | list[_TextItem], Kind("texts", "text or a list of texts", "texts", after=_as_list)
]
Weights = Annotated[
    dict[str, Annotated[float, *bounded(largest=LARGEST)]],
    Kind("weights", "a mapping of texts to numbers", "text: number", before=_weights),
]
Words = Annotated[
    _TextItem | list[_TextItem | Annotated[list[_TextItem], MinLen(1)]],
    Kind(
        "words",
        "a list of texts, a list in place of a text meaning any one of them",
        "texts",
        after=_as_list,
    ),
]
EarlyStopping = Annotated[
    Literal[True, False, "never"],
    Kind("early_stopping", "true, false or never", "true, false, never", before=_flag),
]
Layers: Any = Annotated[
    Literal["low", "high"] | whole_numbers(ge=0),
    Kind("layers", "low, high or a list of layers", "low, high, numbers"),
]
_NotNegative: Any = number(ge=0)
Decay: Any = Annotated[
    list[_NotNegative],
    Len(2, 2),
    Kind(
        "decay",
        "a list of two numbers, where it starts and by what factor it grows",
        "two numbers",
        after=_decay,
    ),
]


@dataclass(frozen=True)
class Setting:
    """A setting of a section, whatever uses it.

    Attributes:
        name: as a config spells it.
        type: what pydantic reads a value as, its range in it and a `Kind` at its end.
        neutral: the value that changes nothing, which it has where it isn't given.
        description: what it does, in a sentence.
        group: what it is about.
        hint: what to do instead, where a value is out of range.
        aliases: what other tools call it.
    """

    name: str
    type: Any
    neutral: Any
    description: str
    group: str = ""
    hint: str = ""
    aliases: tuple[str, ...] = ()

    @cached_property
    def adapter(self) -> "TypeAdapter[Any]":
        """What reads a value."""
        from pydantic import ConfigDict, TypeAdapter

        return TypeAdapter(self.type, config=ConfigDict(strict=True, allow_inf_nan=False))

    @property
    def kind(self) -> Kind:
        """What values it has."""
        kind: Kind = get_args(self.type)[-1]
        return kind

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts allowed, where it is one of a few."""
        values = get_args(self.type)[0]
        is_few = self.kind.name == "text" and get_origin(values) is Literal
        return get_args(values) if is_few else ()

    @property
    def range(self) -> str:
        """The values allowed, in words; empty where all are.

        >>> Setting("top_p", number(gt=0, le=1), 1.0, "").range
        'above 0, at most 1'
        """
        bounds = {key: bound for key, bound in _bounds(self.type) if abs(bound) not in _NO_BOUNDS}
        words = [f"{word} {bounds[key]:,.15g}" for key, word in BOUNDS.values() if key in bounds]
        return ", ".join(words or self.choices)

    def read(self, value: Any) -> Any:
        """`value` in the type it is meant in.

        Raises:
            ValueError: it isn't of that type, or out of range; the message continues the name.

        >>> Setting("top_p", number(le=1), 1.0, "").read("3e-1")
        0.3
        >>> Setting("top_p", number(le=1), 1.0, "").read(1.5)
        Traceback (most recent call last):
        ValueError: must be at most 1, not 1.5.
        """
        from pydantic import ValidationError

        try:
            return self.adapter.validate_python(list(value) if isinstance(value, tuple) else value)
        except ValidationError as error:
            # A union reports each of its branches: a number out of range says most.
            errors = sorted(error.errors(), key=lambda e: e["type"] not in BOUNDS)
        raise ValueError(self._problem(value, errors[0]))

    def _problem(self, value: Any, error: "ErrorDetails") -> str:
        if bound := BOUNDS.get(error["type"]):
            key, word = bound
            wanted, value = f"{word} {error['ctx'][key]:,.15g}", error["input"]
        elif error["type"] == "finite_number":
            wanted, value = "a finite number", error["input"]
        elif self.choices and isinstance(value, str) and value:
            hint = did_you_mean(value, self.choices) or f"Take one of {', '.join(self.choices)}."
            return f"can't be {wrong_value(value)}. {hint}"
        else:
            instead = self._instead_of_null() if value is None else ""
            return f"must be {self.kind.words}, not {wrong_value(value)}. {instead}".rstrip()
        of_what = f" for {error['loc'][0]!r}" if self.kind.name == "weights" else ""
        return f"must be {wanted}{of_what}, not {wrong_value(value)}. {self.hint}".rstrip()

    def _instead_of_null(self) -> str:
        """What to do in place of setting it to null, which is no value of any setting."""
        neutral = self.neutral
        if isinstance(neutral, bool | int | float):
            if neutral not in (0, 1):
                return f"Leave it out for {short_value(neutral)}."
            try:
                return f"{short_value(self.read(neutral))} turns it off."
            except ValueError:  # the value it has when it is left out can't be given
                return "Leave it out to turn it off."
        return "Leave it out for the default." if neutral else "Leave it out to turn it off."

    def schema(self) -> dict[str, Any]:
        """The setting as JSON Schema."""
        return {"description": self.description, **self.adapter.json_schema()}


def _bounds(annotation: Any) -> Iterator[tuple[str, Any]]:
    """The bounds in a type and in the types it is made of, by what pydantic calls them."""
    for part in get_args(annotation):
        if isinstance(part, BaseMetadata):
            yield from asdict(part).items()  # type: ignore[call-overload]
        yield from _bounds(part)


def read_settings(
    values: Mapping[str, Any], *, table: Mapping[str, Setting]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Read the settings of a section.

    Args:
        values: by name, as YAML or a flag gives them.
        table: every setting there is, by name.

    Returns:
        the values in the types they are meant in, and (name, what is wrong) pairs; the message goes
        on from the setting's full name.

    >>> table = {"seed": Setting("seed", whole(), None, "", aliases=("rng",))}
    >>> read_settings({"seed": "5", "sed": 1, "rng": 2}, table=table)  # doctest: +ELLIPSIS
    ({'seed': 5}, [('sed', 'is not a setting. Did you mean seed?'), ('rng', 'is not a ...seed?')])
    """
    meant: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in values.items():
        if name not in table:
            named = (row.name for row in table.values() if name in row.aliases)
            alias = next(named, None)
            hint = f"Did you mean {alias}?" if alias else did_you_mean(name, table)
            problems.append((name, f"is not a setting. {hint}".rstrip()))
            continue
        try:
            meant[name] = table[name].read(value)
        except ValueError as error:
            problems.append((name, str(error)))
    return meant, problems


def settings_schema(table: Mapping[str, Setting]) -> dict[str, Any]:
    """A section of these settings and no others as JSON Schema."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: row.schema() for name, row in table.items()},
    }
