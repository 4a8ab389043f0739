"""Is there room on the disk, and what does a failed write mean?

In: a folder, and the bytes that are to go there. Out: nothing, or an error that says "disk full".
"""

import errno
import shutil
from pathlib import Path

from gptft.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MARKS = ("no space left", "disk quota", "file too large", "os error 28", "errno 28")


def check_room(folder: Path, *, needed: int, kept: str) -> None:
    """Refuse a write that can't fit.

    Args:
        folder: where it is to go; its nearest existing parent is asked.
        needed: bytes.
        kept: a sentence on what is safe.

    Raises:
        RunError: less is free.
    """
    free = free_bytes(folder)
    if free < needed:
        raise RunError(_full(folder, needed=needed, free=free, kept=kept))


def free_bytes(folder: Path) -> int:
    """What a file in `folder` can grow to, as far as the file system says."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def explain(error: Exception, folder: Path, *, needed: int, kept: str) -> Exception:
    """What a failed write of a checkpoint was: a full disk, or something else, in a sentence."""
    if isinstance(error, RunError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    said = " ".join(str(error).split())
    free = free_bytes(folder)
    if number in _FULL or any(mark in said.lower() for mark in _MARKS) or free < needed:
        return RunError(_full(folder, needed=needed, free=free, kept=kept))
    return RunError(f"A checkpoint could not be written to {folder}: {said}. {kept}")


def _full(folder: Path, *, needed: int, free: int, kept: str) -> str:
    return (
        f"Disk full: {folder} needs {needed / 1e6:,.1f} MB and has {free / 1e6:,.1f} MB left. "
        f"{kept} Make room, or set training.output_dir to a larger disk."
    )
