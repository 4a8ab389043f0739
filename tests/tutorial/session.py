"""A folder in which a reader follows the tutorial: files are saved, commands run on a terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

from tests.conftest import ROOT
from tests.tutorial.pages import Command, File

COLUMNS = 80
_ROWS = 1000  # nothing scrolls away
_PIECE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n\b]|[^\x1b\r\n\b]+")


class Session:
    """Runs blocks in order; one that has been run is answered from memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: dict[Command | File | str, str] = {}
        programs = folder / ".programs"
        programs.mkdir()
        program = programs / "gptft"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gptft "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "TERMINAL_WIDTH"},
            "GPTFT_BF16": "false",  # the figures of every machine
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GPTFT_CACHE": "cache",  # a path of one length, as long lines are broken
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm-256color",
        }
        self._environment.pop("_TYPER_FORCE_DISABLE_TERMINAL", None)

    def do(self, block: Command | File) -> str:
        """Save a file, or run a command; what it prints on a terminal.

        Raises:
            RuntimeError: the command failed.
        """
        if isinstance(block, File):
            (self.folder / block.name).write_text(block.text, encoding="utf-8")
            return ""
        if block.line not in self.printed:
            self.printed[block.line] = self.run(block.line)
        return self.printed[block.line]

    def run(self, line: str) -> str:
        """Run a line in a shell; what is on the terminal when it has ended.

        Raises:
            RuntimeError: it failed.
        """
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, COLUMNS, 0, 0))
        with subprocess.Popen(
            ["sh", "-c", line], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=theirs,
            stderr=theirs, env=self._environment,
        ) as process:  # fmt: skip
            os.close(theirs)
            said = b""
            with suppress(OSError):  # Linux ends a terminal that nobody has open with EIO
                while part := os.read(ours, 65536):
                    said += part
        os.close(ours)
        text = screen(said.decode())
        if process.returncode != 0:
            raise RuntimeError(f"{line}\nended with {process.returncode}:\n{text}")
        return text


def screen(said: str) -> str:
    """What a terminal shows at last: colours left out, and bars that were drawn over.

    >>> screen("1/2\\r2/2\\r\\x1b[2Kdone \\x1b[1mall\\x1b[0m\\r\\n")
    'done all\\n'
    """
    lines, row, column = [""], 0, 0
    for piece in _PIECE.finditer(said):
        text, code = piece[0], piece[2]
        if code == "A":
            row = max(0, row - int(piece[1] or 1))
        elif code == "K":
            lines[row] = "" if piece[1] == "2" else lines[row][:column]
        elif text == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif text == "\r":
            column = 0
        elif text == "\b":
            column = max(0, column - 1)
        elif code is None:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"
