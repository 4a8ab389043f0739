"""Weights in another format -> the same ones as safetensors, kept in the cache: made once.

What is kept is named by the checksum of its sources; so that a source isn't read again to tell its
checksum, that is kept as well, beside the size and time of the file.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gptft.console import notice, stage
from gptft.errors import ModelError
from gptft.files import default_cache_dir, file_checksum, free_bytes, read_json, write_json
from gptft.terminal.text import shown_path
from gptft.terminal.words import bytes_text

_FORMAT = 1  # of what is kept; another one is made anew
_SPARE = 2**26  # bytes that are left free on the disk
_RECORD = "source.json"


def kept_weights(
    sources: Sequence[Path], *, name: str, write: Callable[[Path], str], size: int
) -> Path:
    """A folder in the cache with the weights of some files as safetensors.

    Args:
        sources: the files; at least one.
        name: what a person calls the model.
        write: converts into a folder, where that wasn't done before, and tells what it did, in
            words without a full stop.
        size: bytes that the conversion takes on the disk, about.

    Raises:
        ModelError: they can't be written; or what `write` raises.
    """
    cache = default_cache_dir() / "weights"
    try:
        known = _known(sources)
        digest = _known_digest(known)
        if digest is None:
            with stage(f"Reading {shown_path(sources[0])}"):
                digest = _digest(sources)
            if not (cache / digest / _RECORD).is_file():
                _make(sources, cache / digest, name=name, write=write, size=size)
            known.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, {"weights": digest})
    except OSError as error:
        raise ModelError(
            f"The weights of {name} can't be kept as safetensors in {cache}: {error.strerror}. "
            "Set GPTFT_CACHE to a folder that can hold them."
        ) from None
    return cache / digest


def are_kept(sources: Sequence[Path]) -> bool:
    """Whether these files were converted already."""
    return kept_folder(sources) is not None


def kept_folder(sources: Sequence[Path]) -> Path | None:
    """Where these files' weights are kept as safetensors; None where they weren't converted yet."""
    known = _known(sources)
    digest = _known_digest(known)
    return None if digest is None else known.parent.parent / digest


def stamp_of(sources: Sequence[Path]) -> str:
    """What changes when one of the files does, told without reading them."""
    seen = [(str(path.resolve()), *_seen(path)) for path in sources]
    return _short(json.dumps([_FORMAT, seen]))


@contextmanager
def made_whole(folder: Path, *, mark: str) -> Iterator[Path]:
    """A new folder to write to, which becomes `folder` where nothing fails, and else goes.

    Args:
        folder: in the cache; its parent is there.
        mark: a file of it that is there once it is whole.

    Raises:
        OSError: it can't be put in its place.
    """
    made = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        yield made
        try:
            os.replace(made, folder)
        except OSError:  # another process was faster; both made the same
            if not (folder / mark).is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _known(sources: Sequence[Path]) -> Path:
    return default_cache_dir() / "weights" / "known" / f"{stamp_of(sources)}.json"


def _seen(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _short(text: str) -> str:
    from xxhash import xxh3_128_hexdigest

    return str(xxh3_128_hexdigest(text.encode()))


def _digest(sources: Sequence[Path]) -> str:
    return _short(json.dumps([_FORMAT, [file_checksum(one, "xxh3_128") for one in sources]]))


def _known_digest(known: Path) -> str | None:
    with suppress(ValueError, OSError):
        digest = read_json(known).get("weights")
        if isinstance(digest, str) and (known.parent.parent / digest / _RECORD).is_file():
            return digest
    return None


def _make(
    sources: Sequence[Path],
    folder: Path,
    *,
    name: str,
    write: Callable[[Path], str],
    size: int,
) -> None:
    """Write `folder`, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := free_bytes(folder.parent)) < size + _SPARE:
        raise ModelError(
            f"{name}: its weights, {bytes_text(size)}, are to be kept as safetensors in "
            f"{folder.parent}, where {bytes_text(free)} are free. Make room, or set GPTFT_CACHE."
        )
    with made_whole(folder, mark=_RECORD) as made:
        done = write(made)
        write_json(made / _RECORD, {"format": _FORMAT, "sources": [p.name for p in sources]})
    notice(f"{done}. From now on {shown_path(str(folder))} is used.")
