"""A repository and a revision -> what the hub client's cache holds of it; the network isn't asked.

The cache is laid out as huggingface_hub lays it out: refs name a commit, a snapshot holds links to
blobs, and trees list what a commit has.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptft.errors import ModelError
from gptft.files import read_json
from gptft.models.model_files import OLD_VOCABULARIES, PICKLED, PICKLED_INDEX

CARD = "README.md"
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
# What gptft and transformers read beside weights; a repository may hold gigabytes of other JSON.
_TEXT_FILES = frozenset(
    {
        "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "merges.txt", "chat_template.json", *OLD_VOCABULARIES,
    }
)  # fmt: skip
_TEMPLATE = re.compile(r"(additional_chat_templates/)?[^/]+\.jinja")
_TOKENIZERS = ("tokenizer.json", "vocab.json", *OLD_VOCABULARIES)
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """What the cache has of one commit of a repository.

    Attributes:
        repo: owner/name.
        revision: the branch, tag or commit that was asked for.
        commit: the one it stands for.
        folder: where its files are, as far as they are there.
        sizes: bytes of each file that the repository has, by name; None where the cache doesn't
            know, as where an older client filled it.
    """

    repo: str
    revision: str
    commit: str
    folder: Path
    sizes: Mapping[str, int] | None

    def has(self, name: str) -> bool:
        """Whether a file is there, and as long as it should be."""
        with suppress(OSError):
            size = (self.folder / name).stat().st_size  # of the blob that it links to
            return self.sizes is None or self.sizes.get(name, size) == size
        return False

    @property
    def names(self) -> Collection[str]:
        """The files that the repository has, as far as is known here."""
        if self.sizes is not None:
            return self.sizes.keys()
        with suppress(OSError):
            return [path.name for path in self.folder.iterdir()]  # links to nothing, too
        return []


def require_client() -> None:
    """Refuse an environment in which the hub's client can't even be imported.

    Raises:
        ModelError: as said.
    """
    try:
        from huggingface_hub import constants  # noqa: F401
    except ValueError as error:
        raise ModelError(
            f"The model hub's client doesn't take its variables: {error}. HF_HUB_ETAG_TIMEOUT and "
            "HF_HUB_DOWNLOAD_TIMEOUT are whole numbers of seconds."
        ) from None


def cache_folder() -> Path:
    """The hub client's cache: $HF_HUB_CACHE, else hub in $HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repo: str) -> Path:
    """Where the cache keeps a repository."""
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=repo, repo_type="model")


def find_snapshot(repo: str, revision: str) -> Snapshot | None:
    """What the cache has of a revision; None where it never heard of it."""
    from huggingface_hub import get_cached_repo_tree

    kept, commit = repository_folder(repo), revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (kept / "refs" / revision).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        if not re.fullmatch(r"\w+", commit):
            return None
    sizes = None
    with suppress(Exception):  # the listing is missing, or damaged
        listed = get_cached_repo_tree(repo, revision=commit, cache_dir=cache_folder())
        sizes = {file.path: int(file.size) for file in listed}
    folder = kept / "snapshots" / commit
    if sizes is None and not folder.is_dir():
        return None
    return Snapshot(repo, revision, commit, folder, sizes)


def missing_files(found: Snapshot, *, file: str | None, with_weights: bool) -> list[str]:
    """The files that a use takes and that aren't there, or not as a whole.

    Where weights come in parts and their index isn't there, it stands for them.

    Args:
        found: what is there.
        file: the one that is wanted, where it is one.
        with_weights: whether weights are wanted.
    """
    if file is not None:
        return [] if found.has(file) else [file]
    wanted = [name for name in found.names if is_text(name)]
    if with_weights:
        wanted += weight_files(found)
    missing = [name for name in dict.fromkeys(wanted) if not found.has(name)]
    return missing or [*_lacking(found, with_weights=with_weights)]


def can_be_spared(found: Snapshot, names: Collection[str]) -> bool:
    """Whether a use doesn't need some files: those of a tokenizer whose tokenizer.json is there."""
    spare = {"generation_config.json"}
    if found.has("tokenizer.json"):
        spare |= {"vocab.json", "merges.txt", *OLD_VOCABULARIES}
    return spare.issuperset(names)


def is_text(name: str) -> bool:
    """Whether a file of a repository is one that is read beside weights."""
    return name in _TEXT_FILES or _TEMPLATE.fullmatch(name) is not None


def is_model(names: Collection[str]) -> bool:
    """Whether some files are of a model or of a tokenizer at all."""
    return any(name in names for name in ("config.json", "adapter_config.json", *_TOKENIZERS))


def weight_files(found: Snapshot) -> list[str]:
    """The files that a model's weights are loaded from; empty where gptft reads none of them.

    A repository may hold the same weights several times, each gigabytes: only what transformers
    loads is named, safetensors before pickled ones, and nothing in folders of it.

    Raises:
        ModelError: an index names a file that the repository doesn't have.
    """
    for single, index in ((_SINGLE, _INDEX), (PICKLED, PICKLED_INDEX)):
        if single in found.names:
            return [single]
        if index in found.names:
            return [index, *_indexed(found, index)]
    return [name for name in _ADAPTERS if name in found.names][:1]


def _indexed(found: Snapshot, index: str) -> list[str]:
    if not found.has(index):
        return []
    try:
        named = read_json(found.folder / index).get("weight_map")
    except (ValueError, OSError) as error:
        raise ModelError(f"{found.folder / index} can't be read: {error}") from None
    if not isinstance(named, dict) or not named:
        raise ModelError(
            f"{found.folder / index} doesn't say which file each weight is in (weight_map)."
        )
    files = sorted({str(file) for file in named.values()})
    if found.sizes is not None and (strange := [one for one in files if one not in found.sizes]):
        raise ModelError(
            f"{found.repo}: its {index} names {strange[0]}, which the repository doesn't have at "
            f"{found.revision}. Take another revision, or ask its owner."
        )
    return files


def _lacking(found: Snapshot, *, with_weights: bool) -> Iterator[str]:
    """What nobody can tell the names of, where the cache has no list of the repository's files."""
    if found.sizes is not None:
        return
    there: Callable[[str], bool] = found.has
    is_adapter = there("adapter_config.json")  # whose base has the rest
    if not there("config.json") and not is_adapter:
        yield "config.json"
    if not any(map(there, _TOKENIZERS)) and not is_adapter:
        yield "tokenizer.json"
    if with_weights and not weight_files(found):
        yield _SINGLE
