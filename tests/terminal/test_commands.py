"""Commands that are printed to be copied: a shell reads the very words."""

import subprocess
import sys
from pathlib import Path

import pytest

from gptft.terminal.commands import command_line, path_word, quoted_word

NAMES = [
    "runs/poem",
    "my poem",
    "стихи/зима 1",
    'it\'s "quoted"',
    "a$HOME`id`;b&c|d>e",
    "-dash",
    "--overwrite",
    "back\\slash*?[x]{a,b}~!#",
    "new\nline\tand\x1b[2J'",
    "e\u0301 \u202e",
    "bad\udcff byte",
    "",
]


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_word(name: str) -> None:
    script = f"printf %s {quoted_word(name)}"
    done = subprocess.run(
        ["bash", "-c", script.encode("utf-8", "surrogateescape")], capture_output=True, check=True
    )
    assert done.stdout.decode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_one_line_that_a_terminal_shows(name: str) -> None:
    command = command_line("generate", path_word(name), "-p", "x")
    assert command.startswith("gptft generate ")
    assert command.isprintable()


def test_a_path_is_no_option() -> None:
    assert path_word(Path("-x.txt")) == "./-x.txt"
    assert path_word(Path("x-")) == "x-"
