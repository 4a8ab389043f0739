"""Trackers write into the run folder, and not among its checkpoints."""

import inspect
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, integration_utils

from gptft.runs.run_folder import check_free, claim
from gptft.training.trackers import tracking_in
from tests.training.conftest import Run

PLACES = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "trackio": "TRACKIO_DIR", "wandb": "WANDB_DIR"}


@pytest.mark.parametrize(
    ("report_to", "told"),
    [
        ("tensorboard", ["tensorboard"]),
        (["wandb", "trackio"], ["trackio", "wandb"]),
        ("all", ["tensorboard", "trackio", "wandb"]),
        (["none"], []),
        ([], []),
        (None, []),
    ],
)
def test_each_has_a_folder_of_its_own_while_the_run_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report_to: object, told: list[str]
):
    for variable in PLACES.values():
        monkeypatch.delenv(variable, raising=False)
    with tracking_in(tmp_path, {"report_to": report_to}):
        found = {name: os.environ.get(variable) for name, variable in PLACES.items()}
    assert found == {
        name: str(tmp_path / "trackers" / name) if name in told else None for name in PLACES
    }
    assert not any(variable in os.environ for variable in PLACES.values())


def test_a_place_that_the_user_names_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "/mine")
    with tracking_in(tmp_path, {"report_to": "tensorboard"}):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == "/mine"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "/mine"


class Events:
    """TensorBoard's writer: a file of events where it is told to write."""

    def __init__(self, log_dir: str) -> None:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        self.path = Path(log_dir, "events.out")

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.path.write_bytes(b"x")


def writer_of(variable: str) -> type[TrainerCallback]:
    """A tracker that writes where its variable says, else into the working folder."""

    class Tracker(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            Events(os.environ.get(variable, "."))._write()

    return Tracker


@pytest.mark.parametrize("name", PLACES)
def test_a_run_keeps_what_its_tracker_writes_apart_from_its_checkpoints(
    run: Run, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """transformers' own callback of TensorBoard, and two that stand for packages of theirs."""
    for variable in PLACES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("gptft.config.training_needs._is_there", lambda module: True)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    module = SimpleNamespace(SummaryWriter=Events)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)  # type: ignore[arg-type]
    if name != "tensorboard":
        made = writer_of(PLACES[name])
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, made)
    saving = {"save_strategy": "steps", "save_steps": 1, "report_to": name}
    result = run(training=saving)
    written = [path.relative_to(result.run_dir) for path in in_tmp.rglob("events.out")]
    assert written == [Path("trackers", name, "events.out")]
    names = {path.name for path in (result.run_dir / "checkpoints").iterdir()}
    assert names == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}


def test_transformers_still_asks_for_the_place():
    assert PLACES["tensorboard"] in inspect.getsource(TensorBoardCallback.__init__)


def test_a_run_with_trackers_is_replaced_with_them(tmp_path: Path):
    run = tmp_path / "run"
    (run / "trackers" / "tensorboard").mkdir(parents=True)
    (run / "trackers" / "tensorboard" / "events.out").write_bytes(b"x")
    (run / "run.json").write_text("{}", encoding="utf-8")
    check_free(run, overwrite=True)
    claim(run, overwrite=True)
    assert not (run / "trackers").exists()
    assert (run / "earlier" / "trackers" / "tensorboard" / "events.out").is_file()
