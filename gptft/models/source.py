"""A model's name -> a local path, or None for a hub id, which the network isn't asked about."""

import re
from collections.abc import Iterable
from glob import glob, has_magic
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from gptft.errors import ModelError
from gptft.inputs import expand_user, is_folder, near_names
from gptft.models.model_files import OLD_VOCABULARIES

BUNDLED_MODELS = ("pico",)
GGUF_SUFFIX = ".gguf"

# Fields of a config.json that say nothing about what the model computes.
VOLATILE_FIELDS = frozenset(
    {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}
)
_MAX_NAME = 4096  # bytes of a path on Linux; a longer one can't even be asked about
_PART = r"[\w-][\w.-]*"
_REVISION = rf"(@(?P<revision>{_PART}))?"
_HUB_ID = re.compile(rf"(?P<repo>{_PART}(/{_PART})?){_REVISION}")
_HUB_FILE = re.compile(rf"(?P<repo>{_PART}/{_PART}){_REVISION}/(?P<file>{_PART}(/{_PART})*)")


def resolve_model(name: str) -> Path | None:
    """Find the model a person means by `name`.

    Returns:
        a local model folder, one tokenizer.json or a .gguf file; None where `name` can only be a
        hub id, owner/name@revision, or owner/name/file.gguf on the hub.

    A bundled model's name comes first (write `./pico` for a folder of that name), then an existing
    path, then a hub id.

    Raises:
        ModelError: nothing of that name can be a model, or the folder holds none.
    """
    if not name.strip() or len(name.encode(errors="replace")) > _MAX_NAME:
        raise ModelError(f"The model's name is {len(name):,} characters long; that is no model.")
    if name in BUNDLED_MODELS:
        return Path(str(files("gptft.models"))) / name
    try:
        path = _local_path(name)
    except OSError as error:  # no right to look there, or a part of the name is too long
        raise ModelError(f"{name} can't be opened: {error.strerror}.") from None
    if path is not None:
        return path
    if _may_be_on_hub(name):
        first, _, rest = name.partition("/")
        if rest and Path(first).is_dir():  # `runs/typo` beside runs/ is no hub id
            kind = "file" if hub_parts(name).file else "folder"
            raise ModelError(
                f"{name}: no such {kind}, though {first}/ is here."
                f"{near_names(name) or ' Check the name.'}"
            )
        return None
    raise ModelError(
        f"{name}: no such folder or file, and not a hub id either.{near_names(name)} "
        f"Give a model folder, a run folder, owner/name, or a bundled model: "
        f"{', '.join(BUNDLED_MODELS)}."
    )


class HubName(NamedTuple):
    """What a person calls a model of the hub.

    Attributes:
        repo: the repository, owner/name.
        file: the .gguf file of it that is named, if one is.
        revision: the branch, tag or commit that is named with it.
    """

    repo: str
    file: str | None
    revision: str | None


def hub_parts(name: str) -> HubName:
    """The parts of a hub id, which may name a revision and a .gguf file besides.

    >>> tuple(hub_parts("owner/name@v1")), tuple(hub_parts("owner/name/small-Q8_0.gguf"))
    (('owner/name', None, 'v1'), ('owner/name', 'small-Q8_0.gguf', None))
    """
    pattern = _HUB_FILE if name.lower().endswith(GGUF_SUFFIX) else _HUB_ID
    if (found := pattern.fullmatch(name)) is None:
        return HubName(name, None, None)
    return HubName(found["repo"], found.groupdict().get("file"), found["revision"])


def _may_be_on_hub(name: str) -> bool:
    if name.lower().endswith(GGUF_SUFFIX):
        return hub_parts(name).file is not None
    return bool(_HUB_ID.fullmatch(name)) and not name.lower().endswith((".json", ".safetensors"))


def expand_models(names: Iterable[str]) -> list[str]:
    """Each name as it is, a glob such as `runs/my/checkpoints/*` as the folders it matches, sorted.

    Raises:
        ModelError: a glob matches no folder.
    """
    found = []
    for name in names:
        if not has_magic(name) or is_folder(_expand_user(name)):
            found.append(name)
            continue
        folders = [path for path in sorted(glob(str(_expand_user(name)))) if is_folder(Path(path))]
        if not folders:
            raise ModelError(f"{name} matches no folder. Check the pattern.")
        found.extend(folders)
    return found


def _expand_user(name: str) -> Path:
    try:
        return expand_user(name)
    except OSError:
        raise ModelError(f"{name}: there is no such user. Give the whole path.") from None


def _local_path(name: str) -> Path | None:
    path = _expand_user(name)
    if path.is_dir():
        return _model_dir(path)
    if path.is_file() and path.suffix.lower() in (".txt", ".md"):
        raise ModelError(
            f"{name} is a text, and a model comes first: pico, say; the text with --file {name}."
        )
    if path.is_file() and path.suffix != ".json" and path.suffix.lower() != GGUF_SUFFIX:
        raise ModelError(
            f"{name} is a file. A model is a folder with config.json and model.safetensors, "
            f"a run folder, a .gguf file, a tokenizer.json, a hub id, or a bundled one: "
            f"{', '.join(BUNDLED_MODELS)}."
        )
    return path if path.is_file() else None


def _model_dir(path: Path) -> Path:
    if (path / "run.json").is_file():
        if (path / "adapter" / "adapter_config.json").is_file() and not (path / "model").is_dir():
            return path / "adapter"  # of lora.merge: false
        if not (path / "model" / "config.json").is_file():
            raise ModelError(
                f"{path} is a run that has no finished model: {path / 'model'} is missing or "
                "empty. Train it to the end first."
            )
        return path / "model"
    known = ("config.json", "tokenizer.json", "vocab.json", *OLD_VOCABULARIES)
    if not any((path / name).is_file() for name in (*known, "adapter_config.json")):
        raise ModelError(
            f"{path} holds no model: none of {', '.join(known)} is in it. "
            "Give a model folder, a run folder, a hub id or a bundled model."
        )
    return path


def is_hub_id(name: str) -> bool:
    """Whether a name can only be a hub id; False for one that no model can have."""
    try:
        return resolve_model(name) is None
    except ModelError:
        return False


def short_name(name: str) -> str:
    """What a model is called without saying where it lies.

    >>> short_name("/home/somebody/runs/pushkin/model"), short_name("openai-community/gpt2")
    ('pushkin', 'openai-community/gpt2')
    """
    if is_hub_id(name):
        return name
    path = Path(name)
    is_inside = path.name == "model"
    if path.name == "adapter":
        is_inside = (path.parent / "run.json").is_file()
    return (path.parent if is_inside else path).name or name
