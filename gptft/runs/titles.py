"""A model's name as it was given -> what a page calls the model, without saying where it lies."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptft.errors import GptftError
from gptft.files import JsonFields
from gptft.models.card import read_card
from gptft.models.gguf_header import read_gguf_header
from gptft.models.source import GGUF_SUFFIX, resolve_model, short_name
from gptft.runs.read import as_mapping, read_facts
from gptft.runs.run_folder import run_around

# A folder of the hub client's cache: models--owner--name/snapshots/<commit>.
_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/[^/]+$")


@dataclass(frozen=True)
class ModelTitle(JsonFields):
    """What a model is called.

    Attributes:
        name: its own; of a run the run's.
        base: what a run was tuned from; None for a new model, and for what is no run.
    """

    name: str
    base: str | None = None


def title_of(model: str) -> ModelTitle:
    """What to call a model: the name of its run, of its repository, or the one that it has in it.

    Args:
        model: pico, a model, a run or a folder in one, or a hub id.
    """
    with suppress(GptftError, OSError):
        found = resolve_model(model)
        if found is not None and os.path.exists(model):  # else it is bundled, or on the hub
            return _run_title(found) or ModelTitle(_own_name(found))
    return ModelTitle(short_name(model))


def _run_title(folder: Path) -> ModelTitle | None:
    run = run_around(folder)
    facts = None if run is None else read_facts(run)
    if run is None or facts is None:
        return None
    model = as_mapping(as_mapping(facts.get("config")).get("model"))
    base = model.get("name") if not isinstance(model.get("from_scratch"), dict) else None
    if not isinstance(base, str) or not base.strip():
        return ModelTitle(run.name)
    return ModelTitle(run.name, short_name(base))


def _own_name(path: Path) -> str:
    whole = Path(os.path.abspath(path))
    if cached := _CACHED.search(whole.as_posix()):
        return f"{cached[1]}/{cached[2]}"
    if path.suffix.lower() == GGUF_SUFFIX:
        named = read_gguf_header(path).get("general.name")
        return named if isinstance(named, str) and named.strip() else path.stem
    return read_card(path).name or whole.name
