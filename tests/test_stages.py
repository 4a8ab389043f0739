"""What takes long is named on a terminal while it lasts, and nothing of it stays."""

import os
import pty
import select
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

import gptft.console as console
from tests.conftest import ROOT

SCRIPT = """
import sys, time
import gptft.console as console
if "shown" in sys.argv:
    console.show_stages()
with console.stage("Loading [bold] things"):
    time.sleep(0.4)
    with console.stage("The inner one"):
        time.sleep(0.4)
    console.notice("a notice")
    time.sleep(0.4)
sys.stdout.write("result\\n")
"""


Silence = tuple[float, str]  # seconds, and the last of what was on the screen meanwhile


def on_a_terminal(
    *words: str, environment: dict[str, str] | None = None
) -> tuple[int, str, list[Silence]]:
    """Run Python on a pseudo-terminal: exit code, what it wrote, each wait between two writes."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", **(environment or {})}
        os.environ.pop("_TYPER_FORCE_DISABLE_TERMINAL", None)
        os.execv(sys.executable, [sys.executable, *words])
    written, silences, last = b"", [], time.monotonic()
    while select.select([terminal], [], [], 300)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so where the other end is closed
            part = b""
        now = time.monotonic()
        silences.append((now - last, written[-200:].decode(errors="replace")))
        last = now
        if not part:
            break
        written += part
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), written.decode(errors="replace"), silences


def test_a_stage_is_named_while_it_lasts_and_goes():
    code, said, _ = on_a_terminal("-c", SCRIPT, "shown")
    assert code == 0
    assert said.index("Loading [bold] things …") < said.index("The inner one …")
    assert said.rindex("Loading [bold] things …") > said.index("a notice")
    assert said.split("\x1b[2K")[-1].strip() == "result"  # the line above it was cleared


@pytest.mark.parametrize("rank", ["0", "1"])
def test_nothing_is_shown_where_nobody_asked_and_by_other_processes(rank: str):
    flag = "shown" if rank == "1" else "quiet"
    _, said, _ = on_a_terminal("-c", SCRIPT, flag, environment={"RANK": rank})
    assert "…" not in said


def test_nothing_is_shown_off_a_terminal(capsys: pytest.CaptureFixture[str]):
    console.stderr.cache_clear()
    console.show_stages()
    before = threading.active_count()
    with console.stage("Loading"):
        assert threading.active_count() == before
    assert capsys.readouterr().err == ""
    console.stderr.cache_clear()


# A virtual environment whose pip takes six seconds and says nothing, as it does over torch.
_QUIET_PIP = """#!/bin/sh
test "$2" = pip && exec sleep 6
echo "no Python here: $*"
"""
_QUIET_GPTFT = """#!/bin/sh
echo "gptft $*"
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_quickstart_writes_while_pip_is_silent(tmp_path: Path):
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name, script in (("python", _QUIET_PIP), ("gptft", _QUIET_GPTFT)):
        (folder / name).write_text(script, encoding="utf-8")
        (folder / name).chmod(0o755)
    run = "import os, sys; os.execvp('make', ['make', *sys.argv[1:]])"
    code, said, silences = on_a_terminal(
        "-c", run, "-C", str(ROOT), "quickstart", f"VENV={tmp_path / 'venv'}"
    )
    assert code == 0, said
    assert "Installing gptft and its libraries" in said
    assert "gptft train configs/quickstart.yaml" in said
    assert max(seconds for seconds, _ in silences) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("train", "configs/quickstart.yaml", "--set", "training.max_steps=12"),
        ("generate", "pico", "-p", "Мороз и солнце", "--num-beams", "3"),
        ("generate", "pico", "-p", "Мороз и солнце", "--compare", "greedy,beam,contrastive"),
        ("score", "pico", "-f", "data/pushkin/prorok.txt"),
        ("predict", "pico", "-p", "Мороз и"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_no_command_is_silent_for_long(command: tuple[str, ...], tmp_path: Path):
    out = ("--set", f"training.output_dir={tmp_path / 'run'}") if command[0] == "train" else ()
    code, said, silences = on_a_terminal("-m", "gptft", *command, *out)
    assert code == 0, said
    for seconds, shown in silences:
        assert seconds <= (5 if "Loading torch" in shown else 2), shown
