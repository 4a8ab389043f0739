"""A .gguf file of the hub -> its header alone, where no weights are needed.

The header has the sizes of the model, its tokenizer and its chat template; the weights behind it
are gigabytes.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Event

from gptft.console import stage
from gptft.errors import ModelError
from gptft.files import default_cache_dir, json_checksum
from gptft.models.gguf_header import gguf_header_end
from gptft.models.hub_blob import Wanted, fetch_head
from gptft.models.hub_cache import Snapshot

_NAME = 16  # digits of a folder's name


def cached_head(found: Snapshot, name: str) -> Path | None:
    """Where the header of a file is kept; None where it wasn't fetched."""
    path = _place(found, name)
    return path if path.is_file() else None


def fetched_head(found: Snapshot, name: str) -> Path:
    """A file with the header of one of the hub, as long as that, with nothing behind the header.

    Raises:
        ModelError: it isn't a GGUF file, can't be kept, or can't be had to the end of its header.
        Exception: the hub's client's own; see `why_unavailable`.
    """
    size = (found.sizes or {})[name]
    wanted = Wanted(found.repo, found.commit, name, size, Event())
    full_name = f"{found.repo}/{name}"

    def end_of(partial: Path) -> int | None:
        try:
            return gguf_header_end(partial)
        except ModelError as error:
            raise ModelError(str(error).replace(str(partial), full_name)) from None

    with stage(f"Fetching the header of {full_name}"):
        head = fetch_head(wanted, end_of=end_of)
    path = _place(found, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(head)
                file.truncate(size)  # a hole, which takes no room on the disk
            os.replace(made, path)
        finally:
            with suppress(OSError):
                os.unlink(made)
    except OSError as error:
        raise ModelError(
            f"The header of {full_name} can't be kept in {default_cache_dir()}: "
            f"{error.strerror}. Set GPTFT_CACHE to a folder that can hold it."
        ) from None
    return path


def require_all(path: Path, *, name: str) -> None:
    """Refuse to take weights from a file of which only the header was fetched.

    Raises:
        ModelError: as said.
    """
    if path.is_relative_to(_heads()):
        raise ModelError(f"{name}: only its header was fetched. Name it again, with its weights.")


def _heads() -> Path:
    return default_cache_dir() / "gguf" / "heads"


def _place(found: Snapshot, name: str) -> Path:
    key = json_checksum([found.repo, found.commit, name])[:_NAME]
    return _heads() / key / Path(name).name
