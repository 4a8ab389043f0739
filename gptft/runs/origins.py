"""What run.json says -> in a word or two what a run was made of: its base, its texts, its seed."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from gptft.models.source import short_name
from gptft.runs.read import as_int, as_mapping
from gptft.terminal.words import first_of

_HUB = "hub:"  # before a data set's name, which is no path


def base_of(facts: Mapping[str, Any]) -> str | None:
    """The model that training began with; of a new one the architecture.

    >>> base_of({"config": {"model": {"from_scratch": {"model_type": "llama"}}}})
    'new llama'
    """
    model = as_mapping(as_mapping(facts.get("config")).get("model"))
    sizes, name = model.get("from_scratch"), model.get("name")
    if isinstance(sizes, dict):
        return f"new {sizes.get('model_type', 'model')}"
    return short_name(name) if isinstance(name, str) and name.strip() else None


def data_of(facts: Mapping[str, Any]) -> str | None:
    """The texts that a run trained on, by their names without their folders.

    >>> data_of({"config": {"data": {"train": ["a/poems", {"path": "b.txt", "weight": 2.0}]}}})
    'poems, b.txt'
    """
    train = as_mapping(as_mapping(facts.get("config")).get("data")).get("train")
    sources = train if isinstance(train, list) else [train]
    paths = [one.get("path") if isinstance(one, dict) else one for one in sources]
    names = [_text_name(path) for path in paths if isinstance(path, str) and path]
    return first_of(names, 2) if names else None


def seed_of(facts: Mapping[str, Any]) -> int | None:
    """What everything is drawn by that chance decides in training."""
    if (seed := as_int(facts.get("seed"))) is not None:
        return seed
    training = as_mapping(as_mapping(facts.get("config")).get("training"))
    return as_int(training.get("seed"))


def _text_name(path: str) -> str:
    return path if path.startswith(_HUB) else PurePath(path).name or path
