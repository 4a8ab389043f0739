"""A model's name -> its files, fetched from the hub where they must be.

What the hub client's cache holds is used without asking the network; only weights and text files
are ever fetched, and pickled weights only where there are no safetensors.
"""

from pathlib import Path

from gptft.errors import GptftError, ModelError
from gptft.inputs import near_names
from gptft.models.adapters import has_own_tokenizer, is_adapter, require_adapter, with_base
from gptft.models.gguf_files import gguf_files, require_reader
from gptft.models.hub_cache import (
    Snapshot,
    cache_folder,
    can_be_spared,
    find_snapshot,
    is_model,
    missing_files,
    require_client,
    weight_files,
)
from gptft.models.hub_errors import why_unavailable
from gptft.models.hub_fetch import fetch_files, fetch_listing
from gptft.models.hub_head import cached_head, fetched_head
from gptft.models.model_files import ModelFiles, require_small
from gptft.models.source import GGUF_SUFFIX, hub_parts, resolve_model
from gptft.terminal.words import bytes_text, first_of

_MAIN = "main"
_LISTED = 20  # .gguf files of a repository


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

    def find(name: str, its_revision: str | None) -> ModelFiles:
        return find_folder(name, revision=its_revision, with_weights=with_weights)

    files = find(model, revision)
    try:
        found = with_base(files, find)
    except ModelError:
        if with_weights or not has_own_tokenizer(files.folder):
            raise
        return files  # its tokenizer can be looked at without the base
    if with_weights:
        for folder in found.adapters:
            require_adapter(folder)
    return found


def find_folder(
    model: str, *, revision: str | None = None, with_weights: bool = True
) -> ModelFiles:
    """Find the folder that a name means; as `find_model`, but an adapter's stands for itself."""
    path = resolve_model(model)
    if path is None:
        path = _on_hub(model, revision, with_weights=with_weights)
    if path.suffix.lower() == GGUF_SUFFIX and path.is_file():
        return gguf_files(path, name=model, with_weights=with_weights)
    files = ModelFiles(model, path)
    require_small(files)
    return files


def require_model(model: str, *, revision: str | None = None) -> None:
    """Refuse a name that means nothing, before the seconds that loading torch takes.

    Of a hub model its text files are fetched; the rest of a local one is looked at when it is read.

    Raises:
        ModelError: as said.
    """
    if resolve_model(model) is None:
        find_folder(model, revision=revision, with_weights=False)


def find_cached(model: str, *, revision: str | None = None) -> ModelFiles | None:
    """The files of a hub model, weights aside, as the cache has them; None where it lacks any.

    Raises:
        ModelError: a .gguf file of it is damaged.
    """
    repo, file, revision = _asked(model, revision)
    found = find_snapshot(repo, revision)
    if found is None:
        return None
    if file is not None:
        path = _kept(found, file, with_weights=False)
        return None if path is None else gguf_files(path, name=model, with_weights=False)
    lacks = missing_files(found, file=None, with_weights=False)
    if lacks and not _is_enough(found, file=None, with_weights=False):
        return None
    return ModelFiles(model, found.folder)


def commit_of(model: str, *, revision: str | None = None) -> str | None:
    """The commit of a hub model that the cache has for a revision; None of any other model.

    Raises:
        ModelError: nothing of that name can be a model.
    """
    if resolve_model(model) is not None:
        return None
    repo, _, revision = _asked(model, revision)
    found = find_snapshot(repo, revision)
    return None if found is None else found.commit


def check_on_hub(model: str, *, revision: str | None = None) -> bool:
    """Ask for a hub model that is to be loaded, and fetch nothing.

    Returns:
        whether its weights are in the cache already.

    Raises:
        ModelError: they aren't, and the hub can't be asked or has none that gptft reads.
    """
    require_client()
    repo, file, revision = _asked(model, revision)
    found = None
    try:
        found = find_snapshot(repo, revision)
        is_here = found is not None and not missing_files(found, file=file, with_weights=True)
        there = found if found is not None and is_here else fetch_listing(repo, revision)
        _require(there, file=file, with_weights=True)
    except GptftError:
        raise
    except Exception as error:  # the hub's client raises a dozen unrelated types
        if found is None or not _is_enough(found, file=file, with_weights=True):
            raise _unavailable(model, revision, found, error, with_weights=True) from None
        return True
    return is_here


def _asked(model: str, revision: str | None) -> tuple[str, str | None, str]:
    """The repository that is meant, the .gguf file in it, and at which revision.

    Raises:
        ModelError: two revisions are named.
    """
    repo, file, own = hub_parts(model)
    if own is not None and revision is not None and own != revision:
        raise ModelError(
            f"{model} names the revision {own}, and model.revision is {revision}. Leave one out."
        )
    return repo, file, own or revision or _MAIN


def _on_hub(model: str, revision: str | None, *, with_weights: bool) -> Path:
    """The folder of a hub model in the cache, or its .gguf file there; fetched where it isn't."""
    require_client()
    repo, file, revision = _asked(model, revision)
    found = None
    try:
        found = find_snapshot(repo, revision)
        if file is not None:
            path = found and _kept(found, file, with_weights=with_weights)
            return path or _fetch_gguf(repo, revision, file, with_weights=with_weights)
        if found is None or missing_files(found, file=file, with_weights=with_weights):
            found = _fetch(repo, revision, file=file, with_weights=with_weights)
        _require(found, file=file, with_weights=with_weights)
    except GptftError:
        raise
    except Exception as error:  # the hub's client raises a dozen unrelated types
        if found is None or not _is_enough(found, file=file, with_weights=with_weights):
            raise _unavailable(model, revision, found, error, with_weights=with_weights) from None
    return found.folder


def _kept(found: Snapshot, file: str, *, with_weights: bool) -> Path | None:
    """Where a .gguf file is, or its header where that will do; None where it isn't here."""
    if found.has(file):
        return found.folder / file
    return None if with_weights else cached_head(found, file)


def _fetch_gguf(repo: str, revision: str, file: str, *, with_weights: bool) -> Path:
    found = fetch_listing(repo, revision)
    _require(found, file=file, with_weights=with_weights)
    if not with_weights:
        return fetched_head(found, file)
    require_reader(f"{repo}/{file}")
    fetch_files(found, [file])
    return found.folder / file


def _fetch(repo: str, revision: str, *, file: str | None, with_weights: bool) -> Snapshot:
    found = fetch_listing(repo, revision)
    _require(found, file=file, with_weights=with_weights)
    # Twice: an index, once it is there, says which files hold the weights.
    for _ in range(2):
        if missing := missing_files(found, file=file, with_weights=with_weights):
            fetch_files(found, missing)
    return found


def _is_enough(found: Snapshot, *, file: str | None, with_weights: bool) -> bool:
    """Whether what the cache has will do, where the hub can't be asked for the rest."""
    if file is not None:
        return False
    if found.sizes is not None:
        lacks = missing_files(found, file=None, with_weights=with_weights)
        return can_be_spared(found, lacks)
    files = ModelFiles(found.repo, found.folder)
    if with_weights:
        return files.has_weights
    return files.has_tokenizer or files.old_vocabulary is not None or is_adapter(files.folder)


def _require(found: Snapshot, *, file: str | None, with_weights: bool) -> None:
    """Refuse a repository that hasn't what is wanted of it.

    Raises:
        ModelError: as said, with what it has.
    """
    names = found.names
    at = f"{found.repo} on the model hub"
    if file is not None:
        if file not in names:
            raise ModelError(f"{at} has no {file} at {found.revision}.{_gguf_list(found)}")
        return
    if with_weights and not weight_files(found):
        raise ModelError(f"{at} has no weights that gptft reads.{_gguf_list(found)}")
    if not is_model(names):
        raise ModelError(f"{at} has neither a config.json nor a tokenizer.{_gguf_list(found)}")


def _gguf_list(found: Snapshot) -> str:
    """The .gguf files of a repository, each as it is named; else some of its files."""
    sizes = found.sizes or {}
    named = sorted(name for name in found.names if name.lower().endswith(GGUF_SUFFIX))
    if not named:
        return f" It has {first_of(sorted(found.names), 5)}." if found.names else " It is empty."
    lines = [f"  {found.repo}/{name}  {bytes_text(sizes.get(name, 0))}" for name in named]
    more = [f"  ... and {len(lines) - _LISTED:,} more"] if len(lines) > _LISTED else []
    return "\n".join([" Name one of its .gguf files:", *lines[:_LISTED], *more])


def _unavailable(
    model: str, revision: str, found: Snapshot | None, error: Exception, *, with_weights: bool
) -> ModelError:
    repo, file, _ = hub_parts(model)
    reason, way_out = why_unavailable(error, repo=repo, revision=revision)
    near = ""
    if found is None or not found.folder.is_dir():
        near = near_names(model, within=("runs",))
        here = f"no such {'file' if file else 'folder'} here"
    else:
        missing = missing_files(found, file=file, with_weights=with_weights)
        here = f"{cache_folder()} lacks {first_of(missing, 3)} of it at {revision}"
    return ModelError(
        f"{model}: {here}, and it can't be had from the model hub: {reason}.{near} {way_out}"
    )
