"""What every section of a config is, and how a setting of one is written."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """What every section is: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def setting(default: Any, description: str) -> Any:
    """A field with a default; a list or a mapping is copied for each section."""
    if isinstance(default, list | dict):
        return Field(default_factory=default.copy, description=description)
    return Field(default, description=description)
