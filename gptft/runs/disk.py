"""A folder, and the bytes that are to go there -> an error that says what is free and needed."""

import os
import tempfile
from pathlib import Path

from gptft.errors import GptftError, RunError
from gptft.files import free_bytes, is_disk_full


def check_room(folder: Path, *, needed: int, kept: str) -> None:
    """Refuse a write that can't fit.

    Args:
        folder: where it is to go; its nearest existing parent is asked.
        needed: bytes.
        kept: a sentence on what is safe.

    Raises:
        RunError: less is free.
    """
    if missing_bytes(folder, needed) is not None:
        raise _full(folder, needed=needed, kept=kept)


def missing_bytes(folder: Path, needed: int) -> int | None:
    """How many bytes are free for a folder, where that is less than needed; else None."""
    free = free_bytes(folder)
    return free if free < needed else None


def explain(error: Exception, folder: Path, *, needed: int, kept: str) -> Exception:
    """What a failed write was: a full disk, or something else, in a sentence."""
    if isinstance(error, GptftError):
        return error
    said = " ".join(str(error).split())
    # torch knows no more than that a file is shorter than it should be.
    is_unknown = not isinstance(error, OSError)
    if is_disk_full(error) or (is_unknown and not _has_room(folder, needed)):
        return _full(folder, needed=needed, kept=kept)
    return RunError(f"{folder} could not be written to: {said}. {kept}")


def _has_room(folder: Path, needed: int) -> bool:
    """Whether a file of `needed` bytes can be had: quotas and limits count, where they can."""
    if free_bytes(folder) < needed:
        return False
    if not hasattr(os, "posix_fallocate"):
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        return not is_disk_full(error)
    return True


def _full(folder: Path, *, needed: int, kept: str) -> RunError:
    free = free_bytes(folder)
    is_limit = free >= needed
    left = "takes no more: a quota or a limit" if is_limit else f"has {free / 1e6:,.1f} MB left"
    return RunError(
        f"Disk full: {folder} needs {needed / 1e6:,.1f} MB and {left}. "
        f"{kept} Make room, or set training.output_dir to a larger disk."
    )
