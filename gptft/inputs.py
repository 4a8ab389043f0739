"""A path or JSON that a person wrote -> bytes within a bound, a value, or an error that says why.

A FIFO that nobody writes to would be waited for, a device never ends, and a sparse file of a
terabyte takes no room on the disk.
"""

import errno
import json
import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

from gptft.errors import ConfigError

_PART = 2**18  # bytes read at a time
_MAX_PART = 255  # bytes that a part of a path has at most on Linux, macOS and Windows
_MOST_LISTED = 10_000  # entries of a folder that are looked at
_MOST_NEAR = 3


def open_input(path: Path) -> BufferedReader:
    """Open a file, or a pipe that something writes to, such as `<(command)` of a shell.

    Raises:
        OSError: it can't be opened, or is neither; `strerror` says what it is.
    """
    try:
        stream = open(path, "rb", opener=without_waiting)  # noqa: SIM115  (the caller closes it)
    except ValueError:  # open's own, of a NUL in the name
        raise OSError(errno.EINVAL, "its name holds a NUL character", str(path)) from None
    mode = os.fstat(stream.fileno()).st_mode
    problem = None
    if stat.S_ISFIFO(mode):
        os.set_blocking(stream.fileno(), True)
        problem = None if stream.peek(1) else "it is a FIFO, and nothing is written to it"
    elif not stat.S_ISREG(mode):
        problem = "it is a device, not a file"
    if problem is not None:
        stream.close()
        raise OSError(errno.EINVAL, problem, str(path))
    return stream


def without_waiting(path: str, flags: int) -> int:
    """Open a path as `open` wants it of its opener, and don't wait for a FIFO's other end."""
    return os.open(path, flags | (os.O_NONBLOCK if os.name == "posix" else 0), 0o666)


def read_input(path: Path, *, at_most: int) -> bytes:
    """All bytes of a file or of a pipe.

    Args:
        path: see `open_input`.
        at_most: bytes; no more are held in memory.

    Raises:
        OSError: it can't be read, or has more; `strerror` says so.
    """
    with open_input(path) as stream:
        is_larger = os.fstat(stream.fileno()).st_size > at_most  # 0 of a pipe
        parts, room = list[bytes](), 0 if is_larger else at_most + 1
        # In parts: `read` sets aside as much memory as it is asked for.
        while room > 0 and (part := stream.read(min(room, _PART))):
            parts.append(part)
            room -= len(part)
    if room <= 0:
        raise OSError(errno.EFBIG, f"it has more than {at_most:,} bytes", str(path))
    return b"".join(parts)


def near_names(path: str | Path, *, within: Sequence[str] = ()) -> str:
    """A question naming what is there of nearly the name that isn't, with a space before it.

    Nothing where none is near, or the folder can't be listed. Where a folder above is missing, that
    is what is looked for.

    Args:
        path: what isn't there.
        within: folders that may have been left out before it.
    """
    from difflib import get_close_matches

    missing = Path(path)
    try:
        for folder in within:
            if missing.name and os.path.exists(Path(folder, missing)):
                return f" Did you mean {Path(folder, missing)}?"
        while not os.path.isdir(missing.parent) and missing.parent != missing:
            missing = missing.parent
        with os.scandir(missing.parent) as listing:
            there = [
                one.name for one in islice(listing, _MOST_LISTED) if not one.name.startswith(".")
            ]
    except (OSError, ValueError):
        return ""
    by_stem: dict[str, list[str]] = {}  # suffixes alone are alike too often
    for name in sorted(there):
        by_stem.setdefault(Path(name).stem.casefold(), []).append(name)
    near = get_close_matches(missing.stem.casefold(), by_stem, n=_MOST_NEAR, cutoff=0.7)
    names = [name for stem in near for name in by_stem[stem]][:_MOST_NEAR]
    meant = [str(missing.with_name(name)) for name in names]
    return f" Did you mean {' or '.join(meant)}?" if meant else ""


def expand_user(name: str | Path) -> Path:
    """A path with `~` and `~name` at its beginning replaced by a home folder.

    Raises:
        OSError: there is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise OSError(errno.ENOENT, "there is no such user", str(name)) from None


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False where the path can't even be asked about."""
    try:
        return path.is_dir()
    except OSError:  # a part of its name is too long, or a folder on the way can't be looked into
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False where the path can't even be asked about."""
    try:
        return path.is_file()
    except OSError:
        return False


def why_unusable(path: Path) -> str | None:
    r"""Why nothing can be made at a path, in the words after it; None where something may be.

    >>> why_unusable(Path("a\0b")), why_unusable(Path("runs/new"))
    ("can't be made: its name holds a NUL character", None)
    """
    if "\0" in str(path):
        return "can't be made: its name holds a NUL character"
    for at in (path, *path.parents):
        try:
            mode = os.stat(at).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            if at.is_symlink():
                return f"can't be made: {at} is a link to nothing"
            if isinstance(error, FileNotFoundError) and len(os.fsencode(at.name)) > _MAX_PART:
                return f"can't be made: {os.strerror(errno.ENAMETOOLONG)}"
            continue
        except OSError as error:
            return f"can't be made: {error.strerror}"
        if at == path or stat.S_ISDIR(mode):
            return None if stat.S_ISDIR(mode) else "is a file"
        return f"can't be made: {at} is a file"
    return None


def can_be_made(folder: Path) -> bool:
    """Whether a folder can be written to, or made."""
    return why_unusable(folder) is None and os.access(nearest_existing(folder), os.W_OK)


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest of its parents that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def require_working_folder() -> None:
    """Refuse to begin where every relative path leads nowhere.

    Raises:
        ConfigError: the folder that the process is in has been removed, or can't be read.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"The working folder can't be used: {error.strerror}. It was removed, perhaps; change "
            "to another (cd ~)."
        ) from None


def parse_json(text: str | bytes) -> Any:
    """The value that a text in JSON, or one in UTF-8, spells.

    Raises:
        ValueError: it isn't JSON, or is nested too deeply, or holds a number too long to be read.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
