"""What every section of a config is, how a setting of one is written, and types of several."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler

from gptft.config.numbers import LARGEST_WHOLE, as_whole


class Section(BaseModel):
    """What every section is: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def setting(default: Any, description: str) -> Any:
    """A field with a default; a list or a mapping is copied for each section."""
    if isinstance(default, list | dict):
        return Field(default_factory=default.copy, description=description)
    return Field(default, description=description)


def as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


def as_section_list(value: Any) -> Any:
    """A single string or mapping stands for a list of one."""
    return [value] if isinstance(value, str | dict) else value


def as_field(name: str) -> Callable[[Any], Any]:
    """A string alone stands for a mapping that sets this one field."""
    return lambda value: {name: value} if isinstance(value, str) else value


def bare_with_weight_1(self: Any, dump: SerializerFunctionWrapHandler) -> Any:
    """A section of one field and a weight, written as that field alone where the weight is 1."""
    values = dump(self)
    (field,) = values.keys() - {"weight"}
    return values[field] if self.weight == 1.0 else values


def listed(section: type[Section]) -> dict[str, Any]:
    """The JSON Schema of a list of such sections or strings, or of one without its list."""
    one = [{"type": "string"}, section.model_json_schema(mode="validation")]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}]}


Name = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Name], BeforeValidator(as_list), Field(min_length=1)]
Positive = Annotated[int, Field(ge=1, le=LARGEST_WHOLE), BeforeValidator(as_whole)]
Weight = Annotated[float, Field(gt=0.0, le=1000.0, allow_inf_nan=False)]
