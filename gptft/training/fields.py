"""The installed `TrainingArguments` -> its field names, types and choices, as plain values.

`python -m gptft.training.fields` prints them as `gptft/config/training_fields.json` keeps them.
"""

import dataclasses
import enum
import json
import types
import typing
from typing import Any

import transformers
from transformers import TrainingArguments

# Annotations that are wider than what is really taken; the narrower truth.
_NARROWED: dict[str, list[str]] = {"report_to": ["str", "list", "null"]}


def describe_fields() -> dict[str, dict[str, Any]]:
    """Every init field of `TrainingArguments`, by name.

    Returns:
        for each field `types`, names among bool, int, float, str, list, dict, null; and `choices`
        where only some strings are taken.
    """
    hints = typing.get_type_hints(TrainingArguments)
    described = {}
    for field in dataclasses.fields(TrainingArguments):
        if not field.init:
            continue
        names, choices = _describe(hints[field.name])
        choices += [str(choice) for choice in field.metadata.get("choices") or ()]
        entry: dict[str, Any] = {"types": _NARROWED.get(field.name, sorted(set(names)))}
        if choices:
            entry["choices"] = sorted(set(choices))
        described[field.name] = entry
    return described


def _describe(annotation: Any) -> tuple[list[str], list[str]]:
    """Type names and string choices of one annotation."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        args = typing.get_args(annotation)
        enums = [a for a in args if isinstance(a, type) and issubclass(a, enum.Enum)]
        parts = [_describe(a) for a in args if not (enums and a is str)]
        return [n for names, _ in parts for n in names], [c for _, cs in parts for c in cs]
    if origin is typing.Literal:
        return [type(value).__name__ for value in typing.get_args(annotation)], []
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ["str"], [str(member.value) for member in annotation]
    if annotation is type(None):
        return ["null"], []
    plain = origin or annotation
    known = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    return ([known[plain]] if plain in known else []), []


def snapshot() -> str:
    """The text of `gptft/config/training_fields.json` for the installed version, a field a line."""
    lines = [
        f"  {json.dumps(name)}: {json.dumps(entry)}"
        for name, entry in sorted(describe_fields().items())
    ]
    body = ",\n".join(lines)
    return f'{{\n "{transformers.__version__}": {{\n{body}\n }}\n}}\n'


if __name__ == "__main__":
    print(snapshot(), end="")
