"""Trackers write into the run folder, and not among its checkpoints."""

import inspect
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, integration_utils

import gptft.training.run as run_module
from gptft.config import training_needs
from gptft.errors import ConfigError
from gptft.runs.run_folder import check_free, claim
from gptft.training.run import Resume
from gptft.training.trackers import track_samples, tracking_in
from tests.training.conftest import Run
from tests.training.folders import facts
from tests.training.tracker_packages import calls_of, install

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


@pytest.fixture
def calls(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where stand-ins of wandb and trackio write what they are given."""
    yield install(tmp_path_factory.mktemp("packages"), monkeypatch)
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("wandb", "trackio"):
            del sys.modules[name]


SAVING = {"save_strategy": "steps", "save_steps": 1}
SAMPLES = {"prompts": ["Буря", "The"], "steps": 2}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_what_the_run_knows(run: Run, calls: Path, name: str):
    said: list[str] = []
    result = run(
        training={"report_to": name, "eval_strategy": "steps", "eval_steps": 3},
        data={"validation": 0.5}, samples=SAMPLES, notify=said.append,
    )  # fmt: skip
    logged: dict[str, Any] = {}
    for given in calls_of(calls, "log"):
        logged |= given
    wanted = {"train/tokens_per_second", "train/perplexity", "train/grad_norm", "train/loss"}
    wanted |= {"eval/loss", "eval/perplexity", "eval/bits_per_byte"}
    assert wanted <= {*logged}
    assert logged["train/perplexity"] == pytest.approx(math.exp(logged["train/loss"]))
    if name == "wandb":
        rows = [[2, "Буря", " <- Буря"], [2, "The", " <- The"]]
        assert logged["samples"] == {"columns": ["step", "prompt", "continuation"], "data": rows}
    else:
        assert logged["samples/1 Буря"] == "Буря <- Буря"
    places = [sentence for sentence in said if f"{name} writes to" in sentence]
    assert len(places) == 1
    assert str(result.run_dir / "trackers" / name) in places[0]
    assert not any(variable in os.environ for variable in (*PLACES.values(), "WANDB_RUN_ID"))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_is_private_and_resumes_the_same_run(run: Run, calls: Path, name: str):
    training = {"report_to": name, **SAVING}
    result = run(training={**training, "max_steps": 2})
    if name == "wandb":  # another process has no run yet
        sys.modules["wandb"].run = None  # type: ignore[attr-defined]
    run(training=training, resume=Resume(extend=True))
    first, second = calls_of(calls, "init")
    assert first == second
    assert first["name"].startswith("run-")
    if name == "wandb":
        assert (first["WANDB_MODE"], first["WANDB_SILENT"]) == ("offline", "true")
        assert first["WANDB_RESUME"] == "allow"
        assert first["WANDB_RUN_ID"] == facts(result.run_dir)["trackers"]["id"]
    else:
        assert (first["resume"], first["space_id"]) == ("allow", None)


def test_what_the_user_set_is_left(run: Run, calls: Path, monkeypatch: pytest.MonkeyPatch):
    mine = {"WANDB_MODE": "disabled", "WANDB_RUN_ID": "mine", "WANDB_RESUME": "never"}
    for variable, value in mine.items():
        monkeypatch.setenv(variable, value)
    run(training={"report_to": "wandb", "run_name": "my name"})
    [begun] = calls_of(calls, "init")
    assert {name: begun[name] for name in mine} == mine
    assert begun["name"] == "my name"
    assert {name: os.environ[name] for name in mine} == mine


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("wandb", {"WANDB_MODE": "online"}, r"no key\. Log in: wandb login"),
        ("wandb", {"WANDB_DIR": "calls.jsonl/x"}, "Set WANDB_DIR to another"),
        ("trackio", {"TRACKIO_DIR": "calls.jsonl/x"}, "Set TRACKIO_DIR to another"),
        ("trackio", {"BROKEN": "1"}, r"trackio can't be used: ImportError: no \x1b? ?numpy"),
    ],
)
def test_a_tracker_that_fails_ends_the_run_before_a_model_is_loaded(
    run: Run, calls: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    variables: dict[str, str], said: str,
):  # fmt: skip
    monkeypatch.setattr(run_module, "set_up", lambda *_, **__: pytest.fail("a model is loaded"))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.replace("calls.jsonl", str(calls)))
    calls.write_text("", encoding="utf-8")
    if "BROKEN" in variables:
        text = "raise ImportError('no \\x1b numpy')\n"
        (calls.parent / "trackio.py").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as failed:
        run(training={"report_to": name})
    assert "\n" not in str(failed.value)


def test_a_tracker_that_takes_no_sample_ends_nothing(
    run: Run, calls: Path, monkeypatch: pytest.MonkeyPatch
):
    text = (calls.parent / "trackio.py").read_text(encoding="utf-8")
    failing = "def log(values):\n if 'samples/1 Буря' in values: 1 / 0\n "
    text = text.replace("def log(values): ", failing)
    (calls.parent / "trackio.py").write_text(text, encoding="utf-8")
    result = run(training={"report_to": "trackio", "logging_steps": 1}, samples=SAMPLES)
    log = (result.run_dir / "log.txt").read_text(encoding="utf-8")
    assert "samples of step 2 weren't tracked: ZeroDivisionError" in log


def test_tensorboard_shows_samples_as_they_are():
    given: list[Any] = []
    writer = SimpleNamespace(add_text=lambda *args: given.append(args), flush=lambda: None)
    callback: Any = TensorBoardCallback.__new__(TensorBoardCallback)
    callback.tb_writer = writer
    track_samples([callback], ["# a/b\n", "The"], ["*x*\n<b>", "y"], step=7)
    assert given == [
        ("samples/1   a b", "    # a/b\n    *x*\n    <b>", 7),
        ("samples/2 The", "    They", 7),
    ]


@pytest.mark.parametrize(("found", "is_refused"), [("1.27.0", True), ("3.5.0", False)])
def test_an_old_mlflow_is_refused(monkeypatch: pytest.MonkeyPatch, found: str, is_refused: bool):
    monkeypatch.setattr(training_needs, "_is_there", lambda module: True)
    monkeypatch.setattr(training_needs, "version", lambda package: found)
    problems = training_needs.unmet_needs({"report_to": ["mlflow", "tensorboard"]})
    said = "mlflow is 1.27.0 here, and fails below 3. Install a newer one: pip install 'mlflow>=3'"
    assert problems == ([("report_to", said)] if is_refused else [])
