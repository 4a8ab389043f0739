"""Ctrl-C at any moment of a command: one line, exit code 130, and no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SENTENCES

STOPPED = "error: Stopped.\n"
# The signal comes when the module is asked for: in the midst of an import, whatever the machine.
AT_AN_IMPORT = """
import os, signal, sys
from gptft.cli import main
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Sender())
main()
"""
AFTER_A_TIME = """
import sys
from gptft.cli import main
from gptft.cli.ctrl_c import end_on_ctrl_c
end_on_ctrl_c()
print("begun", file=sys.stderr, flush=True)
main()
"""
IN_A_DESTRUCTOR = """
import os, signal
from gptft.cli.ctrl_c import end_on_ctrl_c
class Sender:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
end_on_ctrl_c()
sender = Sender()
del sender
print("went on")
"""
IN_A_WORKER = """
import os, signal, sys
from gptft.cli.ctrl_c import end_on_ctrl_c
end_on_ctrl_c()
if not (child := os.fork()):
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def python(script: str, *args: str, cwd: Path, ignored: bool = False) -> subprocess.Popen[str]:
    """A Python process that takes SIGINT, whatever started the tests, or ignores it."""
    handler = "SIG_IGN" if ignored else "default_int_handler"
    first = f"import signal; signal.signal(signal.SIGINT, signal.{handler})"
    return subprocess.Popen(
        [sys.executable, "-c", first + script, *args],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture
def folder(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """With my.yaml, which trains a tiny model for a moment."""
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES * 4), encoding="utf-8")
    (tmp_path / "my.yaml").write_text(
        f"model: {{name: '{tiny_model_dir}'}}\n"
        "data: {train: text.txt, block_size: 32}\n"
        "training: {max_steps: 2, use_cpu: true, per_device_train_batch_size: 1}\n",
        encoding="utf-8",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("gptft.cli.ctrl_c", "--help"),
        ("gptft.cli.standard_streams", "--help"),
        ("typer", "--help"),
        ("rich.console", "tokenize Мороз"),
        ("tokenizers", "tokenize Мороз"),
        ("pydantic_core", "config check my.yaml"),
        ("gptft.config.sections", "config check my.yaml"),
        ("numpy", "prepare my.yaml"),
        ("torch", "generate pico -p Мороз"),
        ("torch.nn.functional", "score pico Мороз"),
        ("transformers", "train my.yaml"),
    ],
)
def test_within_an_import(folder: Path, module: str, command: str) -> None:
    process = python(AT_AN_IMPORT, module, *command.split(), cwd=folder)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.endswith(STOPPED)
    assert "Traceback" not in err
    assert "runs" not in os.listdir(folder)


def test_where_python_would_drop_the_exception(tmp_path: Path) -> None:
    process = python(IN_A_DESTRUCTOR, cwd=tmp_path)
    assert (*process.communicate(), process.returncode) == ("", STOPPED, 130)


def test_a_worker_leaves_it_to_the_main_process(tmp_path: Path) -> None:
    process = python(IN_A_WORKER, cwd=tmp_path)
    assert (*process.communicate(), process.returncode) == ("", "", 7)


def test_it_stays_ignored_where_whoever_started_us_ignores_it(tmp_path: Path) -> None:
    process = python(AT_AN_IMPORT, "typer", "--version", cwd=tmp_path, ignored=True)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("gptft ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["--help", "tokenize Мороз", "config check my.yaml", "generate pico -p Мороз", "train my.yaml"],
)
def test_at_any_time(folder: Path, command: str) -> None:
    """Once the command is done the code is its own."""
    for delay in (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6):
        process = python(AFTER_A_TIME, *command.split(), cwd=folder)
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        if process.returncode == 0:
            break
        assert process.returncode == 130
        # Once a step is done the command to resume with stands below it.
        assert any(line.startswith("error: Stopped") for line in err.splitlines()[-2:])
