"""A hub id -> a local folder with that model's files.

In: an id and what is needed of it. Out: a folder in the hub client's own cache. What is there
already is used without asking the network; only safetensors and text files are ever fetched.
"""

from pathlib import Path

from gptft.errors import ModelError
from gptft.models.source import read_json, resolve_model

_TEXT_FILES = ("*.json", "merges.txt", "vocab.txt", "tokenizer.model", "*.jinja")
_WEIGHTS = ("*.safetensors",)


def local_folder(name: str, *, revision: str | None = None, with_weights: bool = True) -> Path:
    """The folder (or tokenizer.json) of a model, fetched from the hub where it must be.

    Args:
        name: what a person writes; see `resolve_model`.
        revision: branch, tag or commit of a hub model.
        with_weights: fetch weights, too.

    Raises:
        ModelError: there is no such model here, in the cache or on the hub.
    """
    path = resolve_model(name)
    if path is not None:
        return path
    from huggingface_hub import snapshot_download

    patterns = [*_TEXT_FILES, *(_WEIGHTS if with_weights else ())]
    problem: Exception | None = None
    for only_cached in (True, False):
        try:
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=patterns,
                    local_files_only=only_cached,
                )
            )
        except Exception as error:  # the hub's client raises a dozen unrelated types
            problem = error
            continue
        if (_has_weights if with_weights else has_tokenizer)(folder):
            return folder
        missing = "safetensors files, or not all of them" if with_weights else "tokenizer"
        problem = ModelError(f"it has no {missing}")
    raise ModelError(
        f"{name}: no such folder here, and it can't be had from the model hub "
        f"({_first_line(problem)}). Check the name, or give a local model folder."
    )


def _has_weights(folder: Path) -> bool:
    """Whether every safetensors file is there that the index, where there is one, names."""
    index = read_json(folder / "model.safetensors.index.json")
    named = set(dict(index.get("weight_map") or {}).values())
    present = {path.name for path in folder.glob("*.safetensors")}
    return bool(present) and named <= present


def has_tokenizer(folder: Path) -> bool:
    """Whether one of the files is there that a tokenizer is kept in."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def _first_line(error: Exception | None) -> str:
    lines = str(error or "").strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
