"""What libraries warn of while a run trains -> log.txt in its folder, and a sentence at its end."""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from transformers.utils import logging as transformers_logging

from gptft.console import Notify, is_first_process, notice
from gptft.terminal.words import count

LOG_NAME = "log.txt"
_LARGEST = 10_000_000  # bytes of the file; what follows is counted and not written
_EACH = 10  # times that one message is written
_LEFT_OUT = f" (said {_EACH} times, and left out from here)"
_MOST_WAITING = 1_000  # messages that are kept until there is a run folder
_MOST_KNOWN = 10_000  # different messages that are told apart


class LibraryLog(logging.Handler):
    """Takes what loggers and `warnings` say; errors are shown, too.

    Attributes:
        num_warnings: how many there were, errors among them.
    """

    def __init__(self, path: Path) -> None:
        """Write to `path` once it is opened; what came before is written then, too."""
        super().__init__()
        self.num_warnings = 0
        self._path = path
        self._file: TextIO | None = None
        self._last: logging.LogRecord | None = None
        self._waiting: list[str] = []
        self._times: Counter[tuple[str, str]] = Counter()
        self._room: int | None = None  # bytes left in the file; None before it is opened
        self._taken: list[tuple[logging.Logger, logging.Handler]] = []

    def take_over(self) -> None:
        """Stand in place of every logger's handler that writes to the terminal."""
        named = [*logging.Logger.manager.loggerDict.values()]
        loggers = [one for one in named if isinstance(one, logging.Logger)]
        for logger in [logging.getLogger(), *loggers]:
            for handler in [*logger.handlers]:
                if type(handler) is logging.StreamHandler:
                    self._taken.append((logger, handler))
                    logger.removeHandler(handler)
                    logger.addHandler(self)
        logging.getLogger().addHandler(self)  # for those that have none; it is added once

    def give_back(self) -> None:
        """Put the handlers back."""
        logging.getLogger().removeHandler(self)
        for logger, handler in self._taken:
            logger.removeHandler(self)
            logger.addHandler(handler)
        self._taken.clear()

    def open(self) -> None:
        """Write from now on: there is a run folder. What stands in the file stays."""
        self.take_over()  # libraries that were loaded meanwhile
        if self._room is not None or not is_first_process():
            return
        try:
            self._room = _LARGEST - (self._path.stat().st_size if self._path.exists() else 0)
        except OSError:
            self._room = 0
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._write(line)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a full disk; what couldn't be written is lost
                file.close()
        super().close()

    @property
    def is_written(self) -> bool:
        """Whether there is anything in the file of this process."""
        return self._file is not None

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message of a logger, which may come by several of the loggers above it."""
        if record is self._last:
            return
        self._last = record
        try:
            message = record.getMessage()
        except Exception:  # arguments that don't fit: a library's mistake ends no training
            message = f"{record.msg} {record.args}"
        self.say(record.levelno, record.name, message)

    def say(self, level: int, name: str, message: str) -> None:
        """Take one message."""
        if level >= logging.WARNING:
            self.num_warnings += 1
        if level >= logging.ERROR:
            notice(f"{name}: {message}")
        key = (name, message)
        if len(self._times) < _MOST_KNOWN or key in self._times:
            self._times[key] += 1
        if self._times[key] > _EACH:
            return
        text = message.replace("\n", "\n  ")
        again = _LEFT_OUT if self._times[key] == _EACH else ""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = f"{time} {logging.getLevelName(level)} {name}: {text}{again}\n"
        if self._room is not None:
            self._write(line)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(line)

    def _write(self, line: str) -> None:
        if not self._room:
            return
        size = len(line.encode(errors="backslashreplace"))
        if size > self._room:
            line, size = f"{_LARGEST:,} bytes are full; what follows is left out.\n", self._room
        self._room -= size
        try:
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
            self._file.write(line)
            self._file.flush()
        except OSError:  # a full disk ends training by what must be written
            self._room = 0


@contextmanager
def library_log(run_dir: Path, *, notify: Notify) -> Iterator[LibraryLog]:
    """Keep what libraries say off the terminal, errors excepted, and tell at the end where it is.

    Args:
        run_dir: the run's folder; nothing is written before the log is opened, and what is said in
            a process that ends before is dropped.
        notify: told how many warnings there were, if any.
    """
    log, shown, pid = LibraryLog(run_dir / LOG_NAME), warnings.showwarning, os.getpid()

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
    ) -> None:
        log.say(logging.WARNING, f"{filename}:{lineno}", f"{category.__name__}: {message}")

    transformers_logging.set_verbosity_warning()
    log.take_over()
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield log
    finally:
        warnings.showwarning = shown
        log.give_back()
        transformers_logging.set_verbosity_error()
        is_written = log.is_written
        log.close()
        if log.num_warnings and is_written and os.getpid() == pid:
            notify(f"{count(log.num_warnings, 'warning')} of the libraries: {run_dir / LOG_NAME}")
