"""What run.json says -> the folder in a run that its model is in."""

from collections.abc import Mapping
from typing import Any

from gptft.runs.read import as_mapping

MODEL, ADAPTER = "model", "adapter"


def model_folder(facts: Mapping[str, Any]) -> str:
    """The folder's name: model, or adapter where nothing is merged into the base.

    >>> model_folder({"config": {"lora": {"merge": False}}})
    'adapter'
    """
    lora = as_mapping(as_mapping(facts.get("config")).get("lora"))
    return ADAPTER if lora.get("merge") is False else MODEL


def trains_adapter(facts: Mapping[str, Any]) -> bool:
    """Whether a run trained an adapter, which is in its folder adapter."""
    return bool(as_mapping(as_mapping(facts.get("config")).get("lora")))
