"""`gptft runs` as a person runs it."""

import io
import json
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from gptft import console
from gptft.cli.app import app
from gptft.errors import ConfigError
from gptft.runs.checkpoints import commit_checkpoint
from tests.cli.test_imports import HEAVY, modules_of
from tests.runs.test_status import add_checkpoint, flip_bit, make_run


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, ["runs", *args])


@pytest.fixture
def runs(in_tmp: Path) -> Path:
    """runs/ with a stopped run of two hours ago and a failed one of three minutes ago."""
    folder = in_tmp / "runs"
    poem = make_run(
        folder / "Стихи",
        {"step": 800, "eval_loss": 3.5},
        {"step": 1200, "eval_loss": 3.75},
        {"step": 1200, "loss": 3.25},
        state="stopped",
        config={"model": {"name": "pico"}, "data": {"train": ["texts/морозы.txt"]}},
        seed=7,
    )
    add_checkpoint(poem, step=1200, max_steps=3000)
    fox = make_run(folder / "sweep" / "fox", state="failed", error="Training diverged in step 5.")
    for run, age in ((poem, 2 * 3600 + 60), (fox, 3 * 60 + 5)):
        for file in run.iterdir():
            os.utime(file, (time.time() - age, time.time() - age))
    return folder


def test_off_a_terminal_a_run_is_a_line_with_tabs(runs: Path):
    lines = [
        "runs/sweep/fox\tfailed\tbase -\tdata -\tstep -\tloss -\theld out -\tbest at -\tseed -\t"
        "saved at -\t3 min\tTraining diverged in step 5.",
        "runs/Стихи\tstopped\tbase pico\tdata морозы.txt\tstep 1,200/3,000\tloss 3.250\t"
        "held out 3.750\tbest at 800\tseed 7\tsaved at 1,200\t2 h",
    ]
    for args in ((), ("runs",), ("list", "runs"), ("runs/",)):
        done = invoke(*args)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == lines
        assert done.stderr == ""
    assert invoke("runs/Стихи").stdout.splitlines() == [lines[1]]


def test_json_has_every_figure(runs: Path):
    for args in (("--json",), ("runs", "--json"), ("--json", "runs")):
        answer = json.loads(invoke(*args).stdout)
        assert answer["unreadable"] == []
        fox, poem = answer["runs"]
        assert (fox["path"], fox["state"]) == ("runs/sweep/fox", "failed")
        assert fox["reason"] == "Training diverged in step 5."
        assert {**poem, **dict.fromkeys(("path", "reason", "seen"))} == {
            "path": None,
            "state": "stopped",
            "reason": None,
            "step": 1200,
            "num_steps": 3000,
            "loss": 3.25,
            "held_out_loss": 3.75,
            "best_step": 800,
            "checkpoint": 1200,
            "base": "pico",
            "data": "морозы.txt",
            "seed": 7,
            "seen": None,
        }


ON_A_TERMINAL = {
    60: "stopped 1,200/3,000 3.250 3.750 2 h",
    84: "stopped pico морозы.txt 1,200/3,000 3.250 3.750 2 h",
    110: "stopped pico морозы.txt 1,200/3,000 3.250 3.750 800 7 1,200 2 h",
}


@pytest.mark.parametrize("width", [20, 40, *ON_A_TERMINAL])
def test_on_a_terminal_it_fits(runs: Path, monkeypatch: pytest.MonkeyPatch, width: int):
    make_run(runs / ("long-" * 12) / "deep", {"step": 7, "loss": 1.0}, state="stopped")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    assert invoke().exit_code == 0
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    if width in ON_A_TERMINAL:
        [poem] = [line.split() for line in lines if line.strip().startswith("Стихи ")]
        assert poem == ["Стихи", *ON_A_TERMINAL[width].split()]
    assert "diverged in" in " ".join(lines)


def test_a_column_that_no_run_has_a_value_for_is_left_out(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    make_run(in_tmp / "runs" / "my", {"step": 7, "loss": 1.0}, state="stopped")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    assert invoke().exit_code == 0
    assert screen.getvalue().splitlines()[0].split() == ["runs/", "state", "step", "loss", "age"]


def test_control_characters_in_names_and_reasons_are_shown(in_tmp: Path):
    make_run(in_tmp / "runs" / "a\x1b[2J\nb", state="failed", error="\x1b]0;x\x07 full")
    done = invoke()
    assert done.stdout.startswith(r"runs/a\x1b[2J\nb" "\tfailed")
    assert done.stdout.rstrip().endswith(r"\x1b]0;x\x07 full")
    assert json.loads(invoke("--json").stdout)["runs"][0]["path"] == "runs/a\x1b[2J\nb"


def test_no_folder_is_exit_2_and_no_runs_is_a_sentence(in_tmp: Path):
    missing = invoke()
    assert isinstance(missing.exception, ConfigError)
    assert str(missing.exception).startswith("runs: no such folder.")
    (in_tmp / "runs").mkdir()
    empty = invoke()
    assert (empty.exit_code, empty.stdout) == (0, "No runs in runs. `gptft train` makes one.\n")
    assert json.loads(invoke("--json").stdout) == {"runs": [], "unreadable": []}
    (in_tmp / "file").write_text("", encoding="utf-8")
    assert isinstance(invoke("file").exception, ConfigError)
    assert isinstance(invoke("verify", "runs").exception, ConfigError)


def test_a_folder_named_like_a_command_is_listed_by_its_path(in_tmp: Path):
    make_run(in_tmp / "verify", state="stopped")
    assert invoke("./verify").stdout.startswith("verify\tstopped")
    assert invoke("list", "verify").stdout.startswith("verify\tstopped")


def test_verify_names_every_damaged_file(in_tmp: Path):
    run = make_run(in_tmp / "my", state="stopped")
    for step in (5, 10):
        staging = run / "checkpoints" / ".staging"
        staging.mkdir(parents=True)
        for name in ("a.bin", "b.bin", "c.bin"):
            (staging / name).write_bytes(b"\0" * 1000)
        commit_checkpoint(staging, run / "checkpoints", step=step, notes={})
    whole = invoke("verify", "my")
    assert whole.exit_code == 0
    assert whole.stdout.splitlines() == [
        "my/checkpoints/checkpoint-10: intact",
        "my/checkpoints/checkpoint-5: intact",
    ]
    assert whole.stderr == "2 checkpoints read: nothing is damaged.\n"
    flip_bit(run / "checkpoints" / "checkpoint-10" / "a.bin")
    (run / "checkpoints" / "checkpoint-10" / "c.bin").unlink()
    damaged = invoke("verify", "my", "my")
    assert damaged.exit_code == 1
    assert damaged.stdout.splitlines() == [
        "my/checkpoints/checkpoint-10: a.bin isn't what was written",
        "my/checkpoints/checkpoint-10: c.bin is missing",
        "my/checkpoints/checkpoint-5: intact",
    ]
    answer = invoke("verify", "--json", "my")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout) == {
        "damaged": 1,
        "verified": [
            {"path": "my", "step": None, "problems": []},
            {
                "path": "my/checkpoints/checkpoint-10",
                "step": 10,
                "problems": ["a.bin isn't what was written", "c.bin is missing"],
            },
            {"path": "my/checkpoints/checkpoint-5", "step": 5, "problems": []},
        ],
    }


def test_listing_and_verifying_load_nothing_heavy(runs: Path):
    assert modules_of("runs", cwd=runs.parent) & HEAVY == set()
    assert modules_of("runs", "verify", "runs/sweep", cwd=runs.parent) & HEAVY == set()
