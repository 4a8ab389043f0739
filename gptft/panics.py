"""A call of a library written in Rust -> what it gives, or an error of ours where it panics.

tokenizers, fastokens, safetensors and llguidance take files of strangers, and where one breaks what
they count on they panic: pyo3 raises that as a BaseException, which no `except Exception` sees, and
Rust has printed its place in a stranger's source by then.
"""

import atexit
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import BinaryIO

from gptft.errors import ModelError

# What Rust prints of a panic (1.90): where, why, and once in a process how to see more.
_PRINTED = re.compile(
    rb"\n?thread '[^\n]*' (?:\(\d+\) )?panicked at [^\n]*\n[^\n]*\n(?:stack backtrace:\n)?"
    rb"(?:[ \t]+[^\n]*\n)*(?:note: [^\n]*`RUST_BACKTRACE[^\n]*\n)?"
)


class PanicError(ModelError):
    """A library panicked, mostly over a tokenizer.json that isn't right; `exit_code` 2."""


@contextmanager
def no_panic(tried: str = "") -> Iterator[None]:
    """Call a library written in Rust in this.

    Args:
        tried: what it is called for, which the message begins with; nothing where whoever catches
            the error says it.

    Raises:
        PanicError: it panicked; with the first line of why.
    """
    with _silenced():
        try:
            yield
        except BaseException as error:
            if not is_panic(error):
                raise
            reason = f"its library panicked, {_first_line(error)}"
            raise PanicError(f"{tried}: {reason}" if tried else reason) from None


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic; each library has a type of its own for it, by one name."""
    return type(error).__name__ == "PanicException" and not isinstance(error, Exception)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "and didn't say why"


class _Stderr:
    """Standard error, which goes to a file while libraries are called."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.num_calls = 0
        self.number: int | None = None  # the real one meanwhile
        self.file: BinaryIO | None = None


_stderr = _Stderr()
_switch = {"is_on": False}


def silence_panics() -> None:
    """Keep from standard error what Rust prints of panics; the command line's affair.

    All else that a library prints in a call is printed when that is done. With GPTFT_DEBUG nothing
    is kept back.
    """
    _switch["is_on"] = not os.environ.get("GPTFT_DEBUG")


def stderr_number() -> int:
    """The file descriptor of standard error, also while a library is called."""
    number = _stderr.number
    return 2 if number is None else number


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep panics from standard error; several threads may be in here."""
    if not _switch["is_on"]:
        yield
        return
    with _stderr.lock:
        _stderr.num_calls += 1
        if _stderr.num_calls == 1:
            _keep_back()
    try:
        yield
    finally:
        with _stderr.lock:
            _stderr.num_calls -= 1
            if _stderr.num_calls == 0:
                _let_go()


def _keep_back() -> None:
    try:
        if _stderr.file is None:
            _stderr.file = _temporary_file()
            atexit.register(_stderr.file.close)  # else Python warns of it at its end
        number = os.dup(2)
    except OSError:  # no room for a file, or no more descriptors: then panics are seen
        return
    os.dup2(_stderr.file.fileno(), 2)
    _stderr.number = number


def _temporary_file() -> BinaryIO:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("stderr"), "w+b", buffering=0)
    from tempfile import TemporaryFile  # it takes ten milliseconds to import

    return TemporaryFile(buffering=0)


def _let_go() -> None:
    number, file = _stderr.number, _stderr.file
    if number is None or file is None:
        return
    os.dup2(number, 2)
    _stderr.number = None
    os.close(number)
    size = file.seek(0, os.SEEK_CUR)
    if not size:
        return
    file.seek(0)
    printed = _PRINTED.sub(b"", file.read(size))
    file.seek(0)
    file.truncate()
    with suppress(OSError):  # what can't be written to standard error is dropped
        os.write(2, printed)
