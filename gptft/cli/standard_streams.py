"""The standard streams as the process was given them -> streams that lose no work.

A closed one is open, and goes nowhere: else the next file that is opened would get its number, and
what a library prints would land in that file. What can't be written to standard error is dropped.
"""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from gptft.errors import GptftError, Interrupted
from gptft.panics import stderr_number

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SIGPIPE = 13  # signal.SIGPIPE, which Windows lacks


class _Output(io.FileIO):
    """One of the two, by its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._is_lost = False  # told once; after that the buffers above must still be emptied

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, as `FileIO` does.

        Raises:
            GptftError: standard output can't be written.
            Interrupted: nobody reads standard output any more, as after `| head`.
        """
        if not self._is_lost:
            try:
                if self.fileno() == 2:
                    return os.write(stderr_number(), data)
                return super().write(data)
            except OSError as error:
                self._is_lost = True
                if self.fileno() == 1:
                    raise _ended(error) from None
        return memoryview(data).nbytes


def mend_standard_streams() -> None:
    """Put streams that lose no work in the place of the process's own; captured ones stay."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(2, sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Cyrillic must print under any locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _text(number: int, own: TextIO | None) -> TextIO:
    is_live = isinstance(own, io.TextIOWrapper) and own.line_buffering
    buffer = io.BufferedWriter(_Output(number))
    return io.TextIOWrapper(buffer, encoding="utf-8", line_buffering=is_live)


def _ended(error: OSError) -> GptftError | Interrupted:
    if isinstance(error, BrokenPipeError):
        return Interrupted("", signum=_SIGPIPE)
    return GptftError(f"Standard output can't be written: {error.strerror}.")
