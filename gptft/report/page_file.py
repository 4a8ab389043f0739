"""A path that a user named for a page -> whether a page may be put there without a loss."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from gptft.console import Notify
from gptft.errors import ConfigError, RunError
from gptft.files import write_output

_MARK = b'<meta name="generator" content="gptft">'  # of templates/page.html.j2
_HEAD = 1_000  # bytes that hold it


def check_page_path(path: Path, *, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Refuse to put a page where something else is; called before what it shows is computed.

    Args:
        path: where the page is to go.
        inputs: files that are read.
        overwrite: whether anything may be replaced; a link, a pipe or a device is written to.

    Raises:
        ConfigError: the path is taken by an input, or by anything but a page of gptft.
        RunError: nothing can be written there.
    """
    try:
        taken = None if overwrite or not path.exists() else _taken_by(path, inputs)
        if path.is_symlink() and not path.exists():
            os.stat(os.path.dirname(os.path.realpath(path)))
            if os.path.islink(os.path.realpath(path)):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not path.parent.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError as error:  # a name too long, say
        raise RunError(f"{path} can't be written: {error.strerror}.") from None
    if taken:
        raise ConfigError(
            f"{path} isn't overwritten: {taken}. Name another file, or insist with --overwrite."
        )


def write_page(path: Path, page: str, *, notify: Notify) -> None:
    """Write a page to a path that was checked, and say so.

    Raises:
        RunError: it can't be written.
    """
    write_output(path, page)
    notify(f"Written: {path}")


def _taken_by(path: Path, inputs: Iterable[Path]) -> str | None:
    if not path.is_file():
        return "it is a folder" if path.is_dir() else "it is no regular file"
    if any(one.exists() and one.samefile(path) for one in inputs):
        return "it is read by this very command"
    real = Path(os.path.realpath(path))
    if real.name == "report.html" and real.with_name("run.json").exists():
        return "it is the report of a run"
    with path.open("rb") as file:
        return None if _MARK in file.read(_HEAD) else "it isn't a page of gptft"
