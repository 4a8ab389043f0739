"""`gptft plan`, from the command line to what is printed: processes of their own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gptft.cli.app import app

KEYS = {
    "run_dir", "device", "fits", "parameters", "trained_parameters", "length", "batch_size",
    "block_size", "memory", "disk", "time", "problems", "advice", "unknown",
}  # fmt: skip


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, ["plan", *args])


@pytest.fixture
def text(in_tmp: Path, corpus_dir: Path) -> str:
    return str(corpus_dir)


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output + str(result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_plan_holds_what_the_run_then_has(text: str, tiny_model_dir: Path) -> None:
    given = (
        text, "--model", str(tiny_model_dir), "--block-size", "32", "--max-steps", "4",
        "--use-cpu", "--out", "here",
    )  # fmt: skip
    found = told(invoke(*given, "--json"))
    assert {*found} == KEYS
    assert found["memory"]["is_measured"]
    assert found["memory"]["peak_bytes"] > 10**8
    assert found["memory"]["free_bytes"] > 0
    assert found["time"]["step_seconds"] > 0
    assert found["fits"] is True
    assert found["run_dir"] == "here"
    assert not Path("here").exists()
    trained = CliRunner().invoke(app, ["train", *given, "--json"])
    assert trained.exit_code == 0, trained.output
    run = json.loads(Path("here/run.json").read_text(encoding="utf-8"))
    assert run["num_parameters"] == found["parameters"]
    assert run["result"]["steps"] == found["length"]["steps"]


def test_what_does_not_fit_is_the_first_line_and_no_failure(
    text: str, tiny_model_dir: Path
) -> None:
    result = invoke(
        text, "--model", str(tiny_model_dir), "--block-size", "32", "--batch-size", "100000000",
        "--use-cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("It does not fit: it needs ")
    assert [line for line in lines if line.startswith("training.per_device_train_batch_size: ")]
    assert "No step was made: it doesn't fit, or nearly." in lines


@pytest.mark.slow
def test_it_is_told_without_a_step(text: str, tiny_model_dir: Path) -> None:
    result = invoke(text, "--model", str(tiny_model_dir), "--no-measure", "--use-cpu")
    assert result.stdout.startswith("It fits: it needs ")
    assert "by its operations and this machine's speed" in result.stdout


def test_a_process_that_dies_is_told_of_by_its_code(
    text: str, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = subprocess.CompletedProcess([], returncode=-9, stdout="")
    monkeypatch.setattr("gptft.api.planning.subprocess.run", lambda *args, **kwargs: died)
    result = invoke(text, "--model", str(tiny_model_dir), "--use-cpu")
    assert str(result.exception) == "The process that counts ended with code -9."


@pytest.mark.parametrize("wrong", [["--epochs", "x"], ["--set", "training.learning_rte=1"]])
def test_a_mistake_is_that_of_train(text: str, wrong: list[str]) -> None:
    result = invoke(text, *wrong)
    assert result.exit_code == 1
    assert str(result.exception) == str(CliRunner().invoke(app, ["train", text, *wrong]).exception)
