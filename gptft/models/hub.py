"""A model's name -> its files, fetched from the hub where they must be.

What the hub client's cache holds is used without asking the network; only safetensors and text
files are ever fetched.
"""

from contextlib import suppress
from pathlib import Path

from gptft.errors import ModelError
from gptft.models.model_files import ModelFiles
from gptft.models.source import resolve_model

_TEXT_FILES = ("*.json", "merges.txt", "vocab.txt", "tokenizer.model", "*.jinja")
_WEIGHTS = ("*.safetensors",)


def find_model(
    model: str | ModelFiles, *, revision: str | None = None, with_weights: bool = True
) -> ModelFiles:
    """Find the files of a model.

    Args:
        model: what a person writes, see `resolve_model`; or the files where they are found already.
        revision: branch, tag or commit of a hub model.
        with_weights: fetch weights, too.

    Raises:
        ModelError: there is no such model here, in the cache or on the hub.
    """
    if isinstance(model, ModelFiles):
        return model
    if (path := resolve_model(model)) is not None:
        return ModelFiles(model, path)
    from huggingface_hub import snapshot_download

    patterns = [*_TEXT_FILES, *(_WEIGHTS if with_weights else ())]
    problem: Exception | None = None
    for only_cached in (True, False):
        try:
            folder = snapshot_download(
                model, revision=revision, allow_patterns=patterns, local_files_only=only_cached
            )
        except Exception as error:  # the hub's client raises a dozen unrelated types
            problem = error
            continue
        files = ModelFiles(model, Path(folder))
        if files.has_weights if with_weights else files.has_tokenizer:
            return files
        missing = "safetensors files, or not all of them" if with_weights else "tokenizer"
        problem = ModelError(f"it has no {missing}")
    raise _unavailable(model, problem)


def check_on_hub(model: str, *, revision: str | None = None) -> bool:
    """Ask for a hub model that is to be loaded, and fetch nothing.

    Returns:
        whether its weights are in the cache already.

    Raises:
        ModelError: they aren't, and the hub can't be asked or has none that gptft reads.
    """
    from huggingface_hub import HfApi, snapshot_download

    patterns = [*_TEXT_FILES, *_WEIGHTS]
    with suppress(Exception):  # the hub's client raises a dozen unrelated types
        folder = snapshot_download(
            model, revision=revision, allow_patterns=patterns, local_files_only=True
        )
        if ModelFiles(model, Path(folder)).has_weights:
            return True
    try:
        names = HfApi().list_repo_files(model, revision=revision)
        if any(name.endswith(".safetensors") for name in names):
            return False
        problem: Exception = ModelError("it has no safetensors files")
    except Exception as error:
        problem = error
    raise _unavailable(model, problem)


def _unavailable(model: str, problem: Exception | None) -> ModelError:
    return ModelError(
        f"{model}: no such folder here, and it can't be had from the model hub "
        f"({_first_line(problem)}). Check the name, or give a local model folder."
    )


def _first_line(error: Exception | None) -> str:
    lines = str(error or "").strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
