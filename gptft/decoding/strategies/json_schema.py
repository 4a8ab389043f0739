"""Text that is JSON of a schema."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import MinLen

from gptft.config.settings import Kind, Setting
from gptft.decoding import define
from gptft.decoding.grammar_constraint import constrain_by_grammar, grammar_problems, text_or_file
from gptft.errors import ConfigError
from gptft.inputs import parse_json
from gptft.panics import no_panic

# As json.dumps writes it: free white space a model can repeat for as long as it likes.
_STYLE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def read_schema(value: str) -> dict[str, Any]:
    """The JSON Schema that the setting holds, or that stands in the file it names.

    Raises:
        ConfigError: it can't be read, or isn't a JSON object.
    """
    inline = value.lstrip().startswith("{")
    text, where = text_or_file(value, setting="json_schema", is_text=inline)
    try:
        schema = parse_json(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where} it isn't JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{where} it isn't JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise ConfigError(f"{where} a schema is a mapping, such as {{type: object}}.")
    return schema


def _grammar(settings: define.Values) -> str:
    from llguidance import LLMatcher

    schema = read_schema(settings["json_schema"])
    try:
        with no_panic("json_schema can't be used"):
            return LLMatcher.grammar_from_json_schema(schema, overrides=_STYLE)
    except ValueError as error:  # half of a surrogate pair, which JSON can escape
        raise ConfigError(f"json_schema: {error}.") from None


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return constrain_by_grammar(batch, _grammar(settings), setting="json_schema")


def _check(settings: define.Values) -> Iterator[str]:
    return grammar_problems(settings, "json_schema", _grammar)


def _as_text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_Schema = Annotated[
    dict[str, Any] | Annotated[str, MinLen(1)],
    Kind("text", "a JSON Schema, or the name of a file with one", "JSON Schema", after=_as_text),
]
_ANSWER = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}, "words": {"type": "integer", "maximum": 99}},
    "required": ["sure", "words"],
    "additionalProperties": False,
}

METHOD = define.Method(
    group="search",
    settings=(
        Setting("json_schema", _Schema, None, "The text is JSON that fits this schema, given "
                "itself or as a file."),
    ),
    strategies=(
        define.Strategy(
            name="json_schema",
            description="Generates only what can still become JSON of the schema, to its end.",
            source="No paper: llguidance (github.com/guidance-ai/llguidance); Willard and Louf "
            "2023 (2307.09702) for the idea.",
            takes=("json_schema", *define.ASKED_SAMPLING),
            needs=("json_schema",),
            draws="asked",
            asked_by=("json_schema",),
            processors=(define.Processor("json_schema", define.FORM + 30, _build),),
            by_beginning=True,
            check=_check,
            stand_ins=lambda prompt, base_model: {"json_schema": _ANSWER},
        ),
    ),
)  # fmt: skip
