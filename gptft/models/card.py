"""A model's README.md -> what its front matter says: licence, base, language, data, name.

Source: the fields of https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.config.source import parse_yaml
from gptft.errors import ConfigError
from gptft.inputs import read_input
from gptft.text.unicode import text_problem

_CARD = "README.md"
_MAX_BYTES = 2**22
_MOST_LISTED = 8


@dataclass(frozen=True)
class Card:
    """What a card says, in words; None where it doesn't.

    Attributes:
        licence: its identifier, apache-2.0 for one, or the name of one that is none of the usual.
        base: models it was made of.
        languages: as codes.
        data: data sets it was trained on.
        name: what the model is called.
    """

    licence: str | None = None
    base: str | None = None
    languages: str | None = None
    data: str | None = None
    name: str | None = None


def read_card(folder: Path) -> Card:
    """The card in a model's folder; empty where there is none, or none that can be read."""
    try:
        text = read_input(folder / _CARD, at_most=_MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError):
        return Card()
    first, *lines = text.splitlines() or [""]
    if first.rstrip() != "---":
        return Card()
    stripped = [line.rstrip() for line in lines]
    if "---" not in stripped:
        return Card()
    try:
        said = parse_yaml("\n".join(lines[: stripped.index("---")]), name=_CARD).values
    except ConfigError:
        return Card()
    licence = _words(said, "license")
    return Card(
        licence=_words(said, "license_name") or licence if licence == "other" else licence,
        base=_words(said, "base_model"),
        languages=_words(said, "language"),
        data=_words(said, "datasets"),
        name=_words(said, "model_name"),
    )


def _words(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    items = value if isinstance(value, list) else [value]
    texts = [one for one in items if isinstance(one, str) and one and text_problem(one) is None]
    return ", ".join(texts[:_MOST_LISTED]) or None
