"""A profile says where a step's time went, and changes no weight."""

import gzip
import json
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptft.training.profiling import Profiler
from gptft.training.run import TrainingRun
from gptft.training.trainer import BlockTrainer
from tests.training.conftest import Run
from tests.training.folders import assert_same

PARTS = ("data", "forward", "backward", "optimizer", "logging", "evaluation", "checkpoints")
SETTINGS: dict[str, Any] = {
    "max_steps": 6, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps",
    "save_steps": 3, "gradient_accumulation_steps": 2,
}  # fmt: skip


def profiled(run: Run, monkeypatch: pytest.MonkeyPatch, *, steps: int, **options: Any) -> Any:
    """A run of which so many steps are profiled, and what was shown."""
    shown, said = Console(file=StringIO(), width=10_000, soft_wrap=True), []
    train = TrainingRun.train
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainingRun,
            "train",
            lambda self, console, **_: train(self, shown, profile_steps=steps),
        )
        result = run(notify=said.append, **options)
    assert isinstance(shown.file, StringIO)
    return result, shown.file.getvalue(), said


def test_a_profile_changes_nothing_and_adds_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    sections: dict[str, Any] = {"data": {"validation": 0.5}, "training": SETTINGS}
    plain = run("plain", **sections)
    stock = BlockTrainer.evaluate

    def slow(self: BlockTrainer, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(BlockTrainer, "evaluate", slow)
    result, shown, said = profiled(run, monkeypatch, steps=3, name="watched", **sections)
    assert_same(result.run_dir, plain.run_dir)
    assert "profiler" not in capfd.readouterr().err
    folder = result.run_dir / "profile"
    names = {path.name for path in folder.iterdir()}
    assert names == {"steps-3-5.json.gz", "steps-3-5.summary.json"}
    trace = json.loads(gzip.decompress((folder / "steps-3-5.json.gz").read_bytes()))
    seen = {event.get("name") for event in trace["traceEvents"]}
    assert {f"gptft: {part}" for part in PARTS if part != "optimizer"} <= seen
    parts = json.loads((folder / "steps-3-5.summary.json").read_text("utf-8"))["seconds_a_step"]
    assert all(parts[part] > 0 for part in PARTS)
    assert parts["evaluation"] > 0.2 / 3  # step 4's
    assert parts["logging"] < 0.2 / 3  # which evaluation lies in
    rows = dict(line.split("\t")[:2] for line in shown.splitlines() if line.count("\t") == 2)
    assert {*PARTS, "the rest", "a step"} <= {*rows}
    assert float(rows["evaluation"].replace(",", "")) > 200 / 3
    assert "aten::" in shown
    assert f"Trace: {folder / 'steps-3-5.json.gz'}. Open it in https://ui.perfetto.dev." in said


@pytest.mark.parametrize(("max_steps", "name"), [(2, "steps-1-2"), (4, "steps-3-4")])
def test_a_run_that_is_shorter_is_profiled_to_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, max_steps: int, name: str
):
    result, _, _ = profiled(run, monkeypatch, steps=10, training={"max_steps": max_steps})
    assert (result.run_dir / "profile" / f"{name}.json.gz").is_file()


def test_a_run_that_fails_meanwhile_fails_as_ever(run: Run, monkeypatch: pytest.MonkeyPatch):
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Profiler, "on_pre_optimizer_step", fails)
    with pytest.raises(ZeroDivisionError):
        profiled(run, monkeypatch, steps=2, training={"max_steps": 2})
    monkeypatch.undo()
    assert run(overwrite=True).steps == 3  # no profiler is left on


def test_a_folder_that_holds_a_profile_can_be_replaced(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    profiled(run, monkeypatch, steps=1, training={"max_steps": 1})
    result = run(overwrite=True, training={"max_steps": 1})
    assert not (result.run_dir / "profile").exists()
