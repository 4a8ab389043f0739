"""A model's name -> its files, fetched from the hub where they must be.

What the hub client's cache holds is used without asking the network; only weights and text files
are ever fetched, and pickled weights only where there are no safetensors.
"""

from contextlib import suppress
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

from gptft.errors import ModelError
from gptft.inputs import near_names
from gptft.models.foreign import refuse_adapter
from gptft.models.gguf_files import gguf_files
from gptft.models.model_files import ModelFiles, require_small
from gptft.models.source import GGUF_SUFFIX, resolve_model

_TEXT_FILES = (
    "*.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "*.jinja",
)  # fmt: skip
# The first kind that a repository has; both never, each may be gigabytes.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def find_model(
    model: str | ModelFiles, *, revision: str | None = None, with_weights: bool = True
) -> ModelFiles:
    """Find the files of a model.

    Args:
        model: what a person writes, see `resolve_model`; or the files where they are found already.
        revision: branch, tag or commit of a hub model.
        with_weights: fetch weights, too.

    Raises:
        ModelError: there is no such model here, in the cache or on the hub, or a file of it is far
            too large.
    """
    if isinstance(model, ModelFiles):
        return model
    if (path := resolve_model(model)) is not None:
        if path.suffix.lower() == GGUF_SUFFIX and path.is_file():
            return gguf_files(path, name=model, with_weights=with_weights)
        files = ModelFiles(model, path)
        require_small(files)
        if with_weights:
            refuse_adapter(files)
        return files
    for only_cached, weights in product((True, False), _WEIGHTS if with_weights else ("",)):
        patterns = [*_TEXT_FILES, weights] if weights else [*_TEXT_FILES]
        try:
            files = _download(model, revision, patterns, only_cached=only_cached)
        except Exception as error:  # the hub's client raises a dozen unrelated types
            problem = error
            continue
        if with_weights:
            refuse_adapter(files)
        has_tokenizer = files.has_tokenizer or files.old_vocabulary is not None
        if files.has_weights if with_weights else has_tokenizer:
            return files
        missing = "weights that gptft reads, or not all" if with_weights else "tokenizer"
        problem = ModelError(f"it has no {missing}")
    raise _unavailable(model, problem)


def check_on_hub(model: str, *, revision: str | None = None) -> bool:
    """Ask for a hub model that is to be loaded, and fetch nothing.

    Returns:
        whether its weights are in the cache already.

    Raises:
        ModelError: they aren't, and the hub can't be asked or has none that gptft reads.
    """
    from huggingface_hub import HfApi

    with suppress(Exception):  # the hub's client raises a dozen unrelated types
        if _download(model, revision, [*_TEXT_FILES, *_WEIGHTS], only_cached=True).has_weights:
            return True
    try:
        names = HfApi().list_repo_files(model, revision=revision)
        if any(fnmatch(name, weights) for name in names for weights in _WEIGHTS):
            return False
        problem: Exception = ModelError("it has no weights that gptft reads")
    except Exception as error:
        problem = error
    raise _unavailable(model, problem)


def _download(
    model: str, revision: str | None, patterns: list[str], *, only_cached: bool
) -> ModelFiles:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        model, revision=revision, allow_patterns=patterns, local_files_only=only_cached
    )
    return ModelFiles(model, Path(folder))


def _unavailable(model: str, problem: Exception) -> ModelError:
    lines = str(problem).strip().splitlines()
    reason = lines[0].rstrip(". ") if lines else type(problem).__name__
    near = near_names(model, within=("runs",))
    return ModelError(
        f"{model}: no such folder here, and it can't be had from the model hub "
        f"({reason}).{near or ' Check the name, or give a local model folder.'}"
    )
