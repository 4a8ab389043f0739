"""A model that is asked for answers -> what its run says of how it was trained to give them."""

from collections.abc import Mapping
from typing import Any

from gptft.console import Notify
from gptft.errors import ConfigError
from gptft.inputs import expand_user
from gptft.models.hub import find_model
from gptft.runs.read import as_mapping, read_facts
from gptft.runs.run_folder import run_around
from gptft.tokenization.chat_format import own_template


def check_chat(name: str, *, notify: Notify) -> None:
    """Refuse a chat template for a run on prompts and completions that stood as they are.

    Args:
        name: of a model that was found.
        notify: told where its base has a template, which the run left out.

    Raises:
        ConfigError: it has none.
    """
    chat = as_mapping(as_mapping(as_mapping(_facts(name).get("data")).get("ledger")).get("chat"))
    if not chat or chat.get("template") is not None:
        return
    said = f"{name} was trained on prompts and completions as they are, without a chat template"
    if own_template(find_model(name, with_weights=False)) is not None:
        notify(f"{said}: --chat puts one around the prompt that its base had.")
        return
    raise ConfigError(
        f"{said}. Leave --chat out, and write the prompt as the run's records do. A run with "
        "data.chat_template puts one around them."
    )


def _facts(name: str) -> Mapping[str, Any]:
    """What run.json says of the run that a name means, or a folder in it; else nothing."""
    try:
        folder = expand_user(name)
    except OSError:
        return {}
    facts = read_facts(folder)
    if facts is None and (around := run_around(folder)) is not None:
        facts = read_facts(around)
    return facts or {}
