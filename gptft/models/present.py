"""A model's name -> its files, where its weights are here or can be had; nothing is fetched."""

from pathlib import Path

from gptft.errors import ModelError
from gptft.models.adapter_fit import require_fit
from gptft.models.adapters import is_adapter, require_adapter, with_base
from gptft.models.headers import require_openable
from gptft.models.hub import check_on_hub, find_folder
from gptft.models.model_files import PICKLED, ModelFiles, has_safetensors, pickled_files
from gptft.models.sizes import require_sizes
from gptft.models.source import resolve_model


def find_weights(name: str, *, revision: str | None = None) -> ModelFiles | None:
    """The files of a model with weights; None where they are on the hub and not yet here.

    Raises:
        ModelError: there is no such model, or it has no weights that gptft reads.
    """
    try:
        files = with_base(_find(name, revision), _find)
    except _ElsewhereError:
        return None
    if files.gguf is None:
        require_weights(files.folder)
    if not files.has_weights:
        raise ModelError(f"{files.folder} lacks a .safetensors file that its index names.")
    require_sizes(files)
    require_fit(files)
    return files


class _ElsewhereError(Exception):
    """The weights are on the hub, and not yet here."""


def _find(name: str, revision: str | None) -> ModelFiles:
    if resolve_model(name) is None and not check_on_hub(name, revision=revision):
        raise _ElsewhereError
    files = find_folder(name, revision=revision)
    if is_adapter(files.folder):
        require_adapter(files.folder)
    return files


def require_weights(folder: Path) -> None:
    """Refuse a model folder without any.

    Raises:
        ModelError: as said, or an index names a file that is missing, or one can't be opened.
    """
    require_openable(folder)
    if not has_safetensors(folder) and not pickled_files(folder):
        raise ModelError(
            f"{folder} holds no weights: neither .safetensors files nor {PICKLED}. "
            "Save the model again with save_pretrained of a current transformers."
        )
