"""The sections and their settings -> the JSON Schema by which an editor completes and checks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gptft.config.sections import Config
from gptft.config.settings import Setting, settings_schema
from gptft.config.training_fields import OWN_FIELDS, all_fields, field_bounds

_JSON_TYPES = {
    "bool": "boolean", "int": "integer", "float": "number", "str": "string", "list": "array",
    "dict": "object", "null": "null",
}  # fmt: skip

_JSON_BOUNDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
}  # fmt: skip


def config_schema(generation: Mapping[str, Setting]) -> dict[str, Any]:
    """The schema, as a plain dictionary (JSON Schema 2020-12).

    Args:
        generation: the settings of the section of that name and of each of `strategies`.
    """
    schema = Config.model_json_schema()
    fields = {name: _field_schema(name, entry) for name, entry in all_fields().items()}
    fields |= {name: row.schema() for name, row in OWN_FIELDS.items()}
    schema["properties"]["training"] |= {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(sorted(fields.items())),
    }
    settings = settings_schema(generation)
    schema["properties"]["generation"] |= settings
    schema["properties"]["strategies"]["additionalProperties"] = settings
    return schema


def _field_schema(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """One field of the snapshot as a schema.

    >>> _field_schema("x", {"types": ["null", "str"], "choices": ["fork"]})
    {'type': ['null', 'string'], 'enum': [None, 'fork']}
    """
    types = [_JSON_TYPES[name] for name in entry["types"]]
    schema: dict[str, Any] = {"type": types if len(types) > 1 else types[0]}
    if "choices" in entry:
        others: dict[str, list[Any]] = {"null": [None], "bool": [True, False]}
        schema["enum"] = [
            *(value for name in entry["types"] for value in others.get(name, [])),
            *entry["choices"],
        ]
    if {"int", "float"} & {*entry["types"]}:
        for bound in field_bounds(name, entry):
            ((key, limit),) = asdict(bound).items()  # type: ignore[call-overload]
            schema[_JSON_BOUNDS[key]] = limit
    return schema
