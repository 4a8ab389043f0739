"""Trackers write into the run folder, and not among its checkpoints."""

import inspect
import os
from pathlib import Path

import pytest
from transformers.integrations import TensorBoardCallback

from gptft.runs.run_folder import check_free, claim
from gptft.training.trackers import tracking_in

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
