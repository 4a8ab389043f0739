"""Paths that can't be: each command says so in one line, whatever it would do there."""

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import COMMANDS, app
from gptft.errors import ConfigError, GptftError
from gptft.inputs import is_file, is_folder, require_working_folder, why_unusable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX names and links")

LONG, DEEP = "x" * 256, "/".join(["x" * 200] * 25)
NAMES = {
    "too long": LONG,
    "too long below none": f"none/{LONG}",
    "too deep": DEEP,
    "no such user": "~nobody-of-this-name/x",
    "a loop": "loop",
    "below a loop": "loop/x",
    "below a file": "file/x",
    "a link to nothing": "dangling",
    "no UTF-8": "a\udcff",
    "a dataset's no UTF-8": "hub:a\udcff/b",
    "a dataset's too long": f"hub:{DEEP}",
    "a dataset's no such user": "hub:~nobody-of-this-name/x",
    "a NUL": "a\0b",
    "too long .gguf": f"{LONG}.gguf",
    "no such user's .gguf": "~nobody-of-this-name/x.gguf",
    "a loop's .gguf": "loop.gguf",
}
# What each would read or write stands as @.
COMMAND_LINES = {
    "a tokenizer": ("tokenize", "x", "--model", "@"),
    "a tokenizer beside": ("tokenize", "x", "--compare", "@"),
    "an audit": ("tokenize", "--audit", "--model", "@"),
    "a text": ("tokenize", "--file", "@"),
    "a corpus": ("tokenize", "--file", "@", "--file", "text.txt"),
    "training text": ("tokenizer", "train", "@", "--out", "new", "--vocab-size", "300"),
    "tokens": ("tokenizer", "extend", "pico", "--out", "new", "--add-file", "@"),
    "words": ("tokenizer", "extend", "pico", "--out", "new", "--learn", "@", "--num", "3"),
    "a config": ("prepare", "@"),
    "texts": ("prepare", "my.yaml", "--set", "data.train=@"),
    "a model": ("config", "check", "my.yaml", "--set", "model.name=@"),
    "runs": ("runs", "@"),
    "a run": ("runs", "verify", "@"),
    "a run's text": ("novelty", "@"),
}
OUTPUTS = {
    "a tokenizer": ("tokenizer", "train", "text.txt", "--out", "@", "--vocab-size", "300"),
    "an extended one": ("tokenizer", "extend", "pico", "--out", "@", "--add", "xyz"),
    "a run": ("config", "check", "my.yaml", "--set", "training.output_dir=@"),
    "a page": ("tokenize", "x", "--html", "@"),
}
IMPOSSIBLE = ("too long", "too long below none", "too deep", "a loop", "below a loop",
              "below a file", "a NUL")  # fmt: skip


@pytest.fixture
def at_work(in_tmp: Path) -> Path:
    """A working folder with a text, a config, a file that is no folder, and links."""
    (in_tmp / "loop").symlink_to("loop")
    (in_tmp / "loop.gguf").symlink_to("loop.gguf")
    (in_tmp / "dangling").symlink_to("nowhere")
    (in_tmp / "file").touch()
    (in_tmp / "text.txt").write_text("Мороз и солнце", encoding="utf-8")
    (in_tmp / "my.yaml").write_text("data:\n  train: text.txt\n", encoding="utf-8")
    return in_tmp


def check_one_line(arguments: tuple[str, ...], name: str) -> None:
    done = CliRunner().invoke(app, [word.replace("@", name) for word in arguments])
    error = done.exception
    if isinstance(error, SystemExit):  # of typer's own errors
        assert error.code in (1, 2), done.output
    else:
        assert isinstance(error, GptftError), repr(error)
        assert len(error.problems) == 1 or "verify" in arguments
        assert str(error).strip()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", COMMAND_LINES)
def test_a_name_that_leads_nowhere_is_an_error(at_work: Path, command: str, name: str) -> None:
    check_one_line(COMMAND_LINES[command], NAMES[name])


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("command", OUTPUTS)
def test_what_can_not_be_made_is_refused(at_work: Path, command: str, name: str) -> None:
    check_one_line(OUTPUTS[command], NAMES[name])
    assert {path.name for path in at_work.iterdir()} == {
        "loop", "loop.gguf", "dangling", "file", "text.txt", "my.yaml"
    }  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_why_nothing_can_be_there(at_work: Path, name: str) -> None:
    path = Path(NAMES[name])
    assert not is_file(path)
    assert not is_folder(path)
    assert why_unusable(path)


def test_what_can_be_made_is_not_refused(at_work: Path) -> None:
    (at_work / "link").symlink_to(at_work)
    for name in ("new", "new/er/still", ".", "link", "link/new", "x" * 255, "ж" * 127):
        assert why_unusable(Path(name)) is None
    assert why_unusable(Path("dangling")) == "can't be made: dangling is a link to nothing"
    assert why_unusable(Path("file")) == "is a file"
    assert why_unusable(Path("file/x/y")) == "can't be made: file is a file"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_that_the_working_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    done = CliRunner().invoke(app, [command, "x"])
    assert isinstance(done.exception, ConfigError)
    assert "working folder can't be used: No such file" in str(done.exception)
    with pytest.raises(ConfigError, match="change to another"):
        require_working_folder()
