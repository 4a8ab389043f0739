"""The quick commands are quick: they load neither torch nor transformers nor datasets."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptft.cli.app import COMMANDS, load_command
from tests.conftest import SENTENCES

HEAVY = {"torch", "transformers", "datasets", "accelerate", "peft"}
RUN = """
import json, os, sys
from gptft.cli import main
sys.argv = ["gptft", *sys.argv[1:]]
try:
    main()
    code = 0
except SystemExit as error:
    code = error.code
modules = sorted(sys.modules)
sys.__stderr__.write("\\n" + json.dumps([code or 0, modules, os.environ["GOMP_SPINCOUNT"]]))
"""
# The least a Typer command needs to start and to read one argument.
LEAST = "import typer, rich.console, tokenizers; from pydantic import TypeAdapter"


def modules_of(*args: str, cwd: Path | None = None) -> set[str]:
    """The modules loaded when `gptft ARGS` has run and ended well."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *args],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=True,
    )
    code, modules, turns = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    assert turns == os.environ.get("GOMP_SPINCOUNT", "20000")  # before torch, which reads it once
    return set(modules)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["prepare", "--help"],
        ["train", "--help"],
        ["generate", "--help"],
        ["runs", "--help"],
        ["config", "--help"],
    ],
)
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    assert modules_of(*args) & (HEAVY | {"numpy", "pandas", "tokenizers"}) == set()


@pytest.mark.parametrize("args", [["Токенизируй меня"], ["--json", "Токенизируй меня"]])
def test_tokenize_loads_nothing_heavy(args: list[str]) -> None:
    loaded = modules_of("tokenize", *args)
    assert "tokenizers" in loaded
    assert loaded & (HEAVY | {"numpy", "pandas", "huggingface_hub"}) == set()


def test_prepare_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n".join(SENTENCES * 20), encoding="utf-8")
    loaded = modules_of("prepare", "x.txt", cwd=tmp_path)
    assert "pyarrow" in loaded
    assert loaded & HEAVY == set()


def test_config_check_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    config = "model:\n  name: pico\ndata:\n  train: x.txt\ntraining:\n  learning_rate: 5e-5\n"
    (tmp_path / "x.yaml").write_text(config, encoding="utf-8")
    assert modules_of("config", "check", "x.yaml", cwd=tmp_path) & HEAVY == set()


def test_help_and_tokenize_start_fast() -> None:
    commands = {
        "least": ["-c", LEAST],
        "help": ["-m", "gptft", "--help"],
        "tokenize": ["-m", "gptft", "tokenize", "Токенизируй меня"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(5):
        for name, command in commands.items():  # in turn, so that a busy moment hits all of them
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    assert median["help"] < 2 * median["least"], median
    assert median["tokenize"] < 2 * median["least"], median


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_itself(name: str):
    own = load_command(name).help.split("\n\n")[0].replace("\n", " ")
    assert COMMANDS[name] == own


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_help_imports_no_command(args: list[str]):
    loaded = modules_of(*args)
    assert not {f"gptft.cli.{name}" for name in COMMANDS} & loaded
    assert not {"pydantic", "tokenizers", "numpy"} & loaded
