"""Signals of the operating system -> flags that training looks at between two steps, and an answer.

SIGTERM, SIGHUP and Ctrl-C end a run after saving, SIGUSR1 only saves. Where there is nothing to
save yet, a signal ends the command at once; a second Ctrl-C always does.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType
from typing import Any

from gptft.console import around_a_line, is_first_process
from gptft.errors import Interrupted

_ENDING = ("SIGTERM", "SIGHUP", "SIGINT")
_SAVING = "SIGUSR1"
_SHOW_CURSOR = b"\x1b[?25h"  # which a live view hides
_PATIENCE = 1.0  # seconds that the main thread has to take a signal


class Signals:
    """What signals have asked for so far.

    Python takes a signal in its main thread, between two calls of a library, of which one may take
    many seconds. So a thread of its own answers: with what the signal leads to, and to a second
    Ctrl-C that isn't taken with the end of the process.

    Attributes:
        stop: the number of the signal that asked to end, or None.
        save: whether a checkpoint was asked for.
        at_once: whether a second Ctrl-C ended it where it was.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self.at_once = False
        self._process = os.getpid()
        self._deferred = ""  # what happens first, where a signal only sets the flags
        self._is_over = threading.Event()  # nothing is waited for any more

    @contextmanager
    def listen(self) -> Iterator["Signals"]:
        """Take the signals until the end of the block; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # whoever runs it takes the signals
            return
        handlers: dict[int, Any] = {}
        with self._answering():
            for name in (*_ENDING, _SAVING):
                number = getattr(signal, name, None)  # Windows lacks some
                # What whoever started us ignores stays ignored: SIGHUP under nohup.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    handler = self._on_save if name == _SAVING else self._on_stop
                    handlers[number] = signal.signal(number, handler)
            try:
                yield self
            finally:
                self._is_over.set()
                for number, earlier in handlers.items():
                    signal.signal(number, earlier)

    @contextmanager
    def deferred(self, first: str) -> Iterator[None]:
        """Within the block signals only set the flags: there is something to save.

        Args:
            first: what is done before the end: "Stopping after this step".
        """
        self.check()
        self._deferred = first
        try:
            yield
        finally:
            self._deferred = ""

    def check(self) -> None:
        """End here if a signal asked for it.

        Raises:
            Interrupted: one did.
        """
        if self.stop is not None:
            raise self.interrupted("before the first step; nothing was lost")

    @staticmethod
    def told_by_others() -> int:
        """The signal to end with where another process of the run was told to."""
        return int(signal.SIGTERM)

    def interrupted(self, what: str, *, resumable: bool = False) -> Interrupted:
        """The exception that ends the command after a signal."""
        number = self.stop if self.stop is not None else int(signal.SIGINT)
        name = signal.Signals(number).name
        return Interrupted(f"Stopped by {name} {what}.", signum=number, resumable=resumable)

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker of a data loader, which the main process ends
        if self.stop is None:
            self.stop = number
            if not self._deferred:
                self.check()
        elif number == signal.SIGINT:  # any other is on its way out already
            self.at_once = True
            self._is_over.set()
            raise self.interrupted("at once")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Let a thread hear of the signals as they come."""
        _no_wakeup_in_workers()
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        earlier = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._answer, args=(read_end,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(earlier)
            os.close(write_end)
            thread.join()
            os.close(read_end)

    def _answer(self, read_end: int) -> None:
        is_told = False
        while heard := os.read(read_end, 1):
            name = signal.Signals(heard[0]).name
            if name == _SAVING and self._deferred:
                _say("Saving after this step.")
            elif name in _ENDING and not is_told:
                is_told = True
                # What ends by itself in a moment needs no word.
                if self._deferred or not self._is_over.wait(_PATIENCE):
                    again = " again" if name == "SIGINT" else ""
                    _say(f"{self._deferred or 'Stopping'}; Ctrl-C{again} quits now.")
            elif name == "SIGINT" and not self._is_over.wait(_PATIENCE):
                _say(f"error: {self.interrupted('and a second Ctrl-C, at once')}")
                if os.isatty(2):
                    os.write(2, _SHOW_CURSOR)
                os._exit(128 + heard[0])  # as `kill -9`: what is on the disk is complete or absent


@cache
def _no_wakeup_in_workers() -> None:
    """Keep a worker of a data loader, to which a terminal sends Ctrl-C too, out of the pipe."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def _say(sentence: str) -> None:
    """Write a line to stderr past all buffers, which the main thread may be writing to."""
    if is_first_process():
        before, after = around_a_line() if os.isatty(2) else ("", "\n")
        with suppress(OSError):
            os.write(2, f"{before}{sentence}{after}".encode())
