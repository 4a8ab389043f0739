"""`gptft eval --tasks` with a stand-in for lm-evaluation-harness, and without any."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from gptft.analysis.evaluate import tasks
from gptft.cli.app import app
from tests.conftest import SENTENCES

KNOWN = ["hellaswag", "arc_easy", "arc_challenge"]
# As lm-eval 0.4.13 gives it.
RESULTS: dict[str, Any] = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy", "acc,none": 0.25, "acc_stderr,none": 0.125,
            "acc_norm,none": 0.5, "acc_norm_stderr,none": "N/A", "sample_len": 8,
            "exact_match,strict-match": 0.75,
        }
    },
    "n-shot": {"arc_easy": 5},
}  # fmt: skip


class Harness:
    """What the stand-in was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Any = RESULTS
        self.logits: list[torch.Tensor] = []

    def evaluate(self, **given: Any) -> Any:
        print("loud")  # the harness prints
        self.asked.append(given)
        model, tokenizer = given["model"]
        ids = tokenizer(SENTENCES[0], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            self.logits.append(model(ids).logits)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    found = Harness()
    names = ("lm_eval", "lm_eval.tasks", "lm_eval.models", "lm_eval.models.huggingface")
    made: dict[str, Any] = {name: ModuleType(name) for name in names}
    made["lm_eval"].simple_evaluate = found.evaluate
    made["lm_eval.tasks"].TaskManager = type("TaskManager", (), {"all_tasks": KNOWN})
    made["lm_eval.models.huggingface"].HFLM = lambda *, pretrained, tokenizer, batch_size: (
        pretrained, tokenizer
    )  # fmt: skip
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tasks, "find_spec", lambda name: object())
    return found


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["eval", *args, "--cpu"])


def test_each_figure_is_a_row(harness: Harness, tiny_model_dir: Path) -> None:
    done = run(str(tiny_model_dir), str(tiny_model_dir), "--tasks", "arc_easy, hellaswag")
    assert done.exit_code == 0, done.output + repr(done.exception)
    heads, *rows = [line.split("\t") for line in done.stdout.rstrip("\n").split("\n")]
    assert heads == ["model", "task", "shots", "metric", "value", "standard error"]
    assert [row[1:] for row in rows[:3]] == [
        ["arc_easy", "5", "acc", "0.2500", "0.1250"],
        ["arc_easy", "5", "acc_norm", "0.5000", "-"],
        ["arc_easy", "5", "exact_match,strict-match", "0.7500", "-"],
    ]
    assert len(rows) == 6
    assert "loud" not in done.stdout
    assert [given["tasks"] for given in harness.asked] == [["arc_easy", "hellaswag"]] * 2
    assert harness.asked[0]["limit"] is None
    assert torch.equal(*harness.logits)


def test_json_and_a_limit(harness: Harness, tiny_model_dir: Path) -> None:
    done = run(str(tiny_model_dir), "--tasks", "arc_easy", "--limit", "7", "--json")
    assert done.exit_code == 0
    first = json.loads(done.stdout)[0]
    assert first == {
        "model": str(tiny_model_dir), "task": "arc_easy", "num_fewshot": 5, "metric": "acc",
        "value": 0.25, "standard_error": 0.125,
    }  # fmt: skip
    assert harness.asked[0]["limit"] == 7


def test_a_yaml_file_is_a_task(harness: Harness, tiny_model_dir: Path, in_tmp: Path) -> None:
    Path("mine.yaml").write_text("task: mine", encoding="utf-8")
    assert run(str(tiny_model_dir), "--tasks", "mine.yaml").exit_code == 0
    assert harness.asked[0]["tasks"] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tasks", "arc_esy"], "knows no task arc_esy. Did you mean arc_easy"),
        (["--tasks", "x,hellaswag"], "knows no task x."),
        (["--tasks", ""], "--tasks names no task"),
        (["--tasks", "arc_easy,"], "--tasks names no task"),
        (["--tasks", "arc_easy", "--data", "a.txt"], "goes with neither --data nor --html"),
        (["--tasks", "arc_easy", "--html", "a.html"], "goes with neither --data nor --html"),
        (["--data", "a.txt", "--limit", "3"], "--limit is of --tasks"),
    ],
)
def test_a_mistake_is_one_line(
    harness: Harness, tiny_model_dir: Path, args: list[str], message: str
) -> None:
    failed = run(str(tiny_model_dir), *args).exception
    assert getattr(failed, "exit_code", None) == 2, repr(failed)
    assert message in str(failed)
    assert "\n" not in str(failed)
    assert harness.asked == []


@pytest.mark.parametrize("error", [KeyError("data\nset"), ConnectionError("no network")])
def test_what_the_harness_raises_is_one_line(
    harness: Harness, tiny_model_dir: Path, error: Exception
) -> None:
    harness.answer = error
    failed = run(str(tiny_model_dir), "--tasks", "arc_easy").exception
    assert getattr(failed, "exit_code", None) == 1, repr(failed)
    assert "lm-evaluation-harness can't measure arc_easy: " in str(failed)
    assert "\n" not in str(failed)


def test_without_the_harness_a_line_says_how_to_install_it(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    failed = run(str(tiny_model_dir), "--tasks", "arc_easy").exception
    assert getattr(failed, "exit_code", None) == 2
    assert 'takes the package lm-eval. Install it: pip install "gptft[eval]"' in str(failed)
