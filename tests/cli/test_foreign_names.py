"""Names and values that hold anything: an error quotes them on one line, and cuts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = {
    "escapes": "a\x1b[2J\x1b]0;b\x07",
    "overrides": "a\u202etxt.\u2066b",
    "lines": "a\nerror: b\u2028c",
    "bytes": "a\udcff\udc9b31m",
}
SHOWN = {
    "escapes": r"a\x1b[2J\x1b]0;b\x07",
    "overrides": r"a\u202etxt.\u2066b",
    "lines": r"a\nerror: b\u2028c",
    "bytes": r"a\udcff\udc9b31m",
}


def gptft(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gptft", *map(os.fsencode, args)],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(
    "command", ["config check NAME.yaml", "tokenize --file NAME", "tokenize a --model ./NAME"]
)
def test_a_file_that_is_not_there(tmp_path: Path, kind: str, command: str) -> None:
    done = gptft(*(word.replace("NAME", NAMES[kind]) for word in command.split()), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: ")
    assert SHOWN[kind] in said


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("command", ["NAME", "--NAME", "tokenize --limit NAME", "config NAME"])
def test_words_of_a_command_line(tmp_path: Path, kind: str, command: str) -> None:
    done = gptft(*(word.replace("NAME", NAMES[kind]) for word in command.split()), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert not set(done.stderr) & {"\x1b", "\x07", "\u202e", "\u2066", "\u2028", "\x9b"}
    assert "\nerror: b" not in done.stderr


def test_values_of_a_config(tmp_path: Path) -> None:
    values = {"learning_rate": NAMES["escapes"], NAMES["lines"]: 1, "max_steps": "x" * 2_000_000}
    (tmp_path / "a.yaml").write_text(json.dumps({"training": values}), encoding="utf-8")
    done = gptft("config", "check", "a.yaml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) >= 3
    assert max(map(len, lines)) <= 2_000
    assert SHOWN["escapes"] in done.stderr.replace("\\\\", "\\")


@pytest.mark.parametrize("command", ["VALUE", "tokenize --limit VALUE", "tokenize a --model VALUE"])
def test_a_word_of_a_command_line_that_is_too_long(tmp_path: Path, command: str) -> None:
    value = "x" * 100_000
    done = gptft(*(word.replace("VALUE", value) for word in command.split()), cwd=tmp_path)
    assert done.returncode == 2
    assert sum(map(len, done.stderr.splitlines())) <= 4_000  # with the frame around it
