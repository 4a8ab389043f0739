"""Signals of the operating system -> flags that training looks at between two steps.

SIGTERM, SIGHUP and Ctrl-C end a run after saving, SIGUSR1 only saves. Where there is nothing to
save yet, a signal ends the command at once; a second Ctrl-C always does.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gptft.errors import Interrupted

_ENDING = ("SIGTERM", "SIGHUP", "SIGINT")
_SAVING = "SIGUSR1"


class Signals:
    """What signals have asked for so far.

    Attributes:
        stop: the number of the signal that asked to end, or None.
        save: whether a checkpoint was asked for.
        at_once: whether a second Ctrl-C ended it where it was.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self.at_once = False
        self._deferred = False

    @contextmanager
    def listen(self) -> Iterator["Signals"]:
        """Take the signals until the end of the block; only a main thread can."""
        handlers: dict[int, Any] = {}
        try:
            for name in (*_ENDING, _SAVING):
                number = getattr(signal, name, None)  # Windows lacks some
                # What whoever started us ignores stays ignored: SIGHUP under nohup.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    handler = self._on_save if name == _SAVING else self._on_stop
                    handlers[number] = signal.signal(number, handler)
        except ValueError:  # not the main thread: whoever runs it takes the signals
            pass
        try:
            yield self
        finally:
            for number, earlier in handlers.items():
                signal.signal(number, earlier)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block signals only set the flags: there is something to save."""
        self.check()
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

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

    def interrupted(self, what: str) -> Interrupted:
        """The exception that ends the command after a signal."""
        number = self.stop if self.stop is not None else int(signal.SIGINT)
        return Interrupted(f"Stopped by {signal.Signals(number).name} {what}.", signum=number)

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is None:
            self.stop = number
            if not self._deferred:
                self.check()
        elif number == signal.SIGINT:  # any other is on its way out already
            self.at_once = True
            raise Interrupted("Stopped at once by a second Ctrl-C.", signum=number)
