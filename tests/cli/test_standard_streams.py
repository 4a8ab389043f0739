"""Standard streams that are closed, full or read by nobody: nothing is lost, the code is right."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SENTENCES

FULL = "error: Standard output can't be written: No space left on device.\n"
# Of JSON the end is written when the command is done, and not by rich, line by line.
LIGHT = ["--help", "tokenize Мороз", "tokenize Мороз --json", "config check my.yaml"]
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


class Shell:
    """Runs `gptft` in bash with redirections."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: str, redirections: str = "") -> tuple[int, str, str]:
        """The code, standard output and standard error."""
        line = f"set -o pipefail; '{sys.executable}' -m gptft {command} {redirections}"
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def loss(self) -> float:
        """What the run came to, of which all has been written."""
        assert (self.folder / "run" / "report.html").is_file()
        assert (self.folder / "run" / "model" / "model.safetensors").is_file()
        told = json.loads((self.folder / "run" / "run.json").read_text(encoding="utf-8"))
        assert told["state"] == "done"
        return float(told["result"]["train"]["loss_after"])


@pytest.fixture
def gptft(tmp_path: Path, tiny_model_dir: Path) -> Shell:
    """In a folder with my.yaml, which trains a tiny model for a moment."""
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES * 4), encoding="utf-8")
    (tmp_path / "my.yaml").write_text(
        f"model: {{name: '{tiny_model_dir}'}}\n"
        "data: {train: text.txt, block_size: 32}\n"
        "training: {max_steps: 2, use_cpu: true, output_dir: run}\n",
        encoding="utf-8",
    )
    return Shell(tmp_path)


@pytest.mark.parametrize("command", LIGHT)
def test_a_closed_stream_changes_nothing(gptft: Shell, command: str) -> None:
    code, out, _ = gptft(command)
    assert (code, bool(out)) == (0, True)
    assert gptft(command, "2>&-") == (0, out, "")
    assert gptft(command, "<&- >&-") == (0, "", "")


def test_an_error_without_streams_has_its_code(gptft: Shell) -> None:
    assert gptft("--nonsense", "<&- >&- 2>&-") == (2, "", "")


@needs_full
@pytest.mark.parametrize("command", LIGHT)
def test_a_full_output_is_an_error_and_full_notices_are_none(gptft: Shell, command: str) -> None:
    code, out, _ = gptft(command, "2>/dev/full")
    assert (code, bool(out)) == (0, True)
    code, out, err = gptft(command, ">/dev/full")
    assert (code, out) == (1, "")
    assert err == FULL


@needs_full
def test_a_command_that_fails_keeps_its_code(gptft: Shell) -> None:
    code, _, err = gptft("config check nowhere.yaml", ">/dev/full")
    assert (code, err.count("error: ")) == (2, 1)
    assert gptft("config check nowhere.yaml", "2>/dev/full") == (2, "", "")


def test_standard_input_that_cannot_be_read(gptft: Shell) -> None:
    said = "error: Standard input can't be read: Bad file descriptor.\n"
    assert gptft("tokenize", "0>file") == (2, "", said)


def test_a_reader_that_leaves_ends_it_without_a_word(gptft: Shell) -> None:
    """141 as any program's: 128 and SIGPIPE, or 0 where it was done by then."""
    for command in ("strategies", "strategies --json", "tokenize --file text.txt"):
        code, out, err = gptft(command, "| true")  # which reads nothing
        assert code in (0, 141)
        assert (out, err) == ("", "")
    late = f"(sleep 1; exec '{sys.executable}' -m gptft --help) | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", late], capture_output=True, encoding="utf-8", check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_no_file_gets_the_number_of_a_closed_stream(gptft: Shell) -> None:
    """What a library prints to it would land in the file."""
    script = (
        "import os; from gptft.cli.standard_streams import mend_standard_streams\n"
        "mend_standard_streams()\n"
        "file = open('kept', 'w'); os.write(1, b'noise'); os.write(2, b'noise'); file.close()\n"
        "print(os.path.getsize('kept'), file=open('size', 'w'))\n"
    )
    line = f"'{sys.executable}' -c \"{script}\" <&- >&- 2>&-"
    subprocess.run(["bash", "-c", line], cwd=gptft.folder, check=True)
    assert (gptft.folder / "size").read_text(encoding="utf-8") == "0\n"


def test_training_without_streams_is_training(gptft: Shell) -> None:
    assert gptft("train my.yaml", "<&- >&- 2>&-") == (0, "", "")
    assert 0 < gptft.loss() < 10


@pytest.mark.slow
@needs_full
def test_training_with_any_streams_is_the_same(gptft: Shell) -> None:
    assert gptft("prepare my.yaml", ">&- 2>&-") == (0, "", "")
    assert gptft("train my.yaml")[0] == 0
    loss = gptft.loss()
    for redirections, codes in (
        (">&-", {0}),
        ("2>&-", {0}),
        ("2>/dev/full", {0}),
        (">/dev/full", {1}),
        ("2>&1 | true", {141}),
        ("2>&1 >/dev/null | true", {0}),
    ):
        assert gptft("train my.yaml --overwrite", redirections)[0] in codes, redirections
        assert gptft.loss() == loss


def _untimed(text: str) -> str:
    return re.sub(r"[\d.,]+", "", text)


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize("flags", ["", "--stream", "--json", "--html page.html --compare greedy"])
def test_a_text_that_cannot_be_written(gptft: Shell, flags: str) -> None:
    command = f"generate pico --cpu -p Мороз --max-new-tokens 5 {flags}"
    code, out, _ = gptft(command)
    assert (code, bool(out)) == (0, True)
    code, again, err = gptft(command, "2>&-")
    assert (code, _untimed(again), err) == (0, _untimed(out), "")
    assert gptft(command, ">&-")[0] == 0
    code, _, err = gptft(command, ">/dev/full")
    assert (code, err.endswith(FULL)) == (1, True)
    assert gptft(command, "2>&1 | true")[0] in (0, 141)
    assert (gptft.folder / "page.html").exists() == ("--html" in flags)
