"""Ctrl-C -> one line and exit code 130, from the first moment on and whoever would catch it."""

import atexit
import os
import signal
import sys
from types import FrameType

from gptft.errors import Interrupted

_IMPORTING = "<frozen importlib._bootstrap>"  # the file of a frame that waits for an import


def end_on_ctrl_c() -> None:
    """Let Ctrl-C end the command, unless whoever started it ignores the signal.

    An import is left at once: libraries turn an exception in theirs into errors of their own, or
    go on half loaded. Anything else can tidy up, since the signal is raised as `Interrupted`.
    """
    if _is_ignored():
        return
    process, earlier_hook = os.getpid(), sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            return  # a worker, which the main process ends
        if _is_importing(frame):
            _end_here()
        if os.isatty(2):
            os.write(2, b"\n")  # the terminal has written ^C
        raise Interrupted("Stopped.", signum=number)

    def cannot_raise(problem: "sys.UnraisableHookArgs") -> None:
        if isinstance(problem.exc_value, Interrupted):  # the signal came within a __del__
            _end_here()
        earlier_hook(problem)

    signal.signal(signal.SIGINT, stop)
    # At its very end Python takes handlers away, and a command that is done would be killed.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = cannot_raise


def leave_on_ctrl_c(code: int) -> None:
    """Let Ctrl-C end a process whose work is done with its own exit code, however long it takes."""
    if not _is_ignored():
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(code))


def _is_ignored() -> bool:
    """Whether whoever started us ignores it: nohup, or a shell for a job in the background."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORTING:
        frame = frame.f_back
    return frame is not None


def _end_here() -> None:
    """End without tidying up, as `kill -9` would: what is on the disk is complete or absent."""
    said = b"error: Stopped.\n"
    if os.isatty(2):
        said = b"\r\x1b[2K\x1b[?25h" + said  # a bar hides the cursor
    try:
        os.write(2, said)
    finally:
        os._exit(128 + signal.SIGINT)
