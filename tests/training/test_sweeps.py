"""`gptft train --sweep` in real processes: run after run, killed and continued, failed, stopped."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.folders import assert_same, make_place
from tests.training.processes import Command

Start = Callable[..., Command]

CONFIG = """
model:
  name: '{model}'
  config_overrides: {{resid_pdrop: 0.1, embd_pdrop: 0.1}}
data: {{train: '{texts}', validation: 0.3, block_size: 32}}
training:
  max_steps: 6
  logging_steps: 1
  learning_rate: 1e-3
  per_device_train_batch_size: 2
  eval_strategy: steps
  eval_steps: 2
  use_cpu: true
  save_steps: 2
samples: {{prompts: ["The quick"]}}
generation: {{max_new_tokens: 4}}
"""
GRID = "grid:\n  training.learning_rate: [1e-3, 1e-2]\n  training.seed: [1, 2]\n"
NAMES = [f"learning_rate={rate},seed={seed}" for rate in ("0.001", "0.01") for seed in (1, 2)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with my.yaml, grid.yaml, and the sweep `whole` that nobody disturbed."""
    folder = make_place(tmp_path_factory.mktemp("place"), config=CONFIG, model=tiny_model_dir)
    (folder / "grid.yaml").write_text(GRID, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTFT_CACHE", str(folder / "cache"))
        words = ["train", str(folder / "my.yaml"), "--sweep", str(folder / "grid.yaml")]
        command = Command(*words, "--out", str(folder / "whole"), log=folder / "whole.log")
        assert command.exit_code() == 0, command.said
    return folder


@pytest.fixture
def start(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Sweep into `tmp_path/sweep`: `start("grid.yaml", "--set", ..., slow="steps")`."""
    monkeypatch.setenv("GPTFT_CACHE", str(place / "cache"))
    commands = []

    def begin(sweep: str = "grid.yaml", *flags: str, slow: str | None = None) -> Command:
        words = ["train", str(place / "my.yaml"), "--sweep", str(place / sweep)]
        words += ["--out", str(tmp_path / "sweep"), *flags]
        commands.append(Command(*words, log=tmp_path / f"{len(commands)}.log", slow=slow))
        return commands[-1]

    yield begin
    for command in commands:
        command.stop()


def record(sweep_dir: Path) -> dict[str, str]:
    runs = json.loads((sweep_dir / "sweep.json").read_text(encoding="utf-8"))["runs"]
    return {run["name"]: run["state"] for run in runs}


def test_a_sweep_trains_each_combination_and_compares_them(place: Path):
    whole = place / "whole"
    assert sorted(path.name for path in whole.iterdir()) == sorted(
        [*NAMES, "comparison.html", "sweep.json"]
    )
    assert record(whole) == dict.fromkeys(NAMES, "done")
    said = (place / "whole.log").read_text(encoding="utf-8")
    assert f"Run 4 of 4: {NAMES[3]}" in said
    assert "training.learning_rate\t0.001\t0.001\t0.01\t0.01" in said
    assert "training.seed\t1\t2\t1\t2" in said
    page = (whole / "comparison.html").read_text(encoding="utf-8")
    assert "4 runs side by side" in page
    seeds = [json.loads((whole / name / "run.json").read_text())["seed"] for name in NAMES]
    assert seeds == [1, 2, 1, 2]


def test_each_run_is_the_one_that_would_be_trained_alone(place: Path, tmp_path: Path, start: Start):
    alone = Command(
        "train", str(place / "my.yaml"), "--lr", "1e-2", "--seed", "2",
        "--out", str(tmp_path / "alone"), log=tmp_path / "alone.log",
    )  # fmt: skip
    assert alone.exit_code() == 0, alone.said
    assert_same(tmp_path / "alone", place / "whole" / NAMES[3])


@pytest.mark.parametrize(
    "again", [(), pytest.param(("--resume",), marks=pytest.mark.slow)], ids=["again", "resume"]
)
def test_a_killed_sweep_is_continued_bit_for_bit(
    place: Path, tmp_path: Path, start: Start, again: tuple[str, ...]
):
    sweep = tmp_path / "sweep"
    command = start(slow="steps").wait_for("step 4/6", after="Run 3 of 4")
    command.send(signal.SIGKILL).exit_code()
    finished = [(sweep / name / "model" / "model.safetensors") for name in NAMES[:2]]
    times = [path.stat().st_mtime_ns for path in finished]
    assert record(sweep)[NAMES[2]] == "waiting"
    assert not (sweep / NAMES[3] / "run.json").exists()
    assert not (sweep / "comparison.html").exists()
    command = start("grid.yaml", *again)
    assert command.exit_code() == 0, command.said
    assert (
        command.said.count("Resuming from step 2") + command.said.count("Resuming from step 4") == 1
    )
    assert [path.stat().st_mtime_ns for path in finished] == times
    for name in NAMES:
        assert_same(sweep / name, place / "whole" / name)
    assert record(sweep) == dict.fromkeys(NAMES, "done")
    assert (sweep / "comparison.html").exists()


def test_ctrl_c_stops_it_with_the_command_that_continues_it(tmp_path: Path, start: Start):
    command = start(slow="steps").wait_for("stepping", after="Run 2 of 4")
    assert command.send(signal.SIGINT).exit_code() == 130
    last = command.said.splitlines()[-1]
    assert last.startswith("  gptft train --resume ")
    assert "--sweep" in last
    assert record(tmp_path / "sweep") == dict(
        zip(NAMES, ["done", "stopped", "waiting", "waiting"], strict=True)
    )
    assert "Traceback" not in command.said


def test_a_run_that_fails_is_recorded_and_the_others_are_trained(
    place: Path, tmp_path: Path, start: Start
):
    text = "grid: {training.learning_rate: [1e-3, 1e12], training.max_steps: [2]}"
    (place / "fails.yaml").write_text(text, encoding="utf-8")
    command = start(
        "fails.yaml", "--set", "training.max_grad_norm=0", "--set", "training.optim=sgd"
    )
    assert command.exit_code() == 1, command.said
    states = record(tmp_path / "sweep")
    assert states == {
        "learning_rate=0.001,max_steps=2": "done",
        "learning_rate=1000000000000.0,max_steps=2": "failed",
    }
    assert "error: learning_rate=1000000000000.0,max_steps=2 failed: " in command.said
    assert "2 runs, 1 failed." in command.said
    assert "Traceback" not in command.said
    assert (tmp_path / "sweep" / "comparison.html").exists()


def test_a_sweep_is_json_and_replaced_where_that_is_asked_for(
    place: Path, tmp_path: Path, start: Start
):
    text = "runs: [{training.seed: 1}, {training.weight_decay: 0.5}]"
    (place / "short.yaml").write_text(text, encoding="utf-8")
    short = ("--set", "training.max_steps=2", "--json")
    command = start("short.yaml", *short)
    assert command.exit_code() == 0, command.said
    model = tmp_path / "sweep" / "seed=1" / "model" / "model.safetensors"
    first = model.stat().st_mtime_ns
    command = start("short.yaml", *short)
    assert command.exit_code() == 0, command.said
    assert model.stat().st_mtime_ns == first
    answer = json.loads(command.said[command.said.index("\n{\n") :])
    assert [run["state"] for run in answer["runs"]] == ["done", "done"]
    assert answer["comparison"]["settings"]["training.seed"] == ["1", "42"]
    command = start("short.yaml", *short, "--overwrite", "--weight-decay", "0.1")
    assert command.exit_code() == 2  # the sweep sets it
    command = start("short.yaml", *short, "--overwrite", "--lr", "1e-4")
    assert command.exit_code() == 0, command.said
    assert model.stat().st_mtime_ns > first


@pytest.mark.parametrize(
    ("sweep", "flags", "said"),
    [
        (
            "grid: {training.learning_rate: [1e-3, fast], training.sed: [1]}",
            (),
            ["bad.yaml:1:39  training.learning_rate must be", "training.sed is not a setting. Did"],
        ),
        ("grid: {learning_rate: [1, 2]}", (), ["Did you mean training.learning_rate?"]),
        (
            "grid: {training.seed: [1, 2]}",
            ("--seed", "7"),
            ["training.seed is set by --seed, too."],
        ),
        (
            "runs: [{model.from_scratch: {model_type: gpt2}, model.from_scratch.n_layer: 2}]",
            (),
            ["model.from_scratch.n_layer is set by", "Leave one of them out."],
        ),
        ("grid: {model.name: [pico, runs/none]}", (), ["runs/none"]),
        ("grid: {data.train: [no-such.txt]}", (), ["no-such.txt"]),
        ("grid: {training.seed: [1]}", ("--extend", "--resume"), ["--sweep takes no"]),
    ],
)
def test_what_is_wrong_with_any_run_is_said_before_the_first_begins(
    place: Path, tmp_path: Path, start: Start, sweep: str, flags: tuple[str, ...], said: list[str]
):
    (place / "bad.yaml").write_text(sweep, encoding="utf-8")
    command = start("bad.yaml", *flags)
    assert command.exit_code() == 2, command.said
    for words in said:
        assert words in command.said
    assert not (tmp_path / "sweep").exists()
    assert "Traceback" not in command.said


def test_a_sweep_is_not_continued_by_other_settings(place: Path, tmp_path: Path):
    whole = place / "whole"
    before = {path.name: path.stat().st_mtime_ns for path in whole.rglob("*")}
    for flags, said in (
        (("--set", "data.seed=5"), "data.seed was 42 and is 5 now"),
        (("--set", "training.max_steps=8"), "training.max_steps was 6 and is 8 now"),
        (("--weight-decay", "0.1"), "training.weight_decay was not set and is 0.1 now"),
    ):
        words = ["train", str(place / "my.yaml"), "--sweep", str(place / "grid.yaml")]
        command = Command(*words, "--out", str(whole), *flags, log=tmp_path / "log")
        assert command.exit_code() == 2, command.said
        assert f"{NAMES[0]} was trained by other settings: {said}" in command.said
    assert {path.name: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_folder_that_is_taken_is_refused(place: Path, tmp_path: Path):
    words = ["train", str(place / "my.yaml"), "--sweep", str(place / "grid.yaml"), "--out"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    page = tmp_path / "mine"
    page.mkdir()
    (page / "comparison.html").write_text("mine", encoding="utf-8")
    for folder, said in (
        (place / "whole" / NAMES[0], "is a run, and the runs of a sweep are folders"),
        (place / "whole" / NAMES[0] / "x", "is within the run"),
        (tmp_path / "file", "is a file."),
        (page, "comparison.html isn't overwritten"),
    ):
        command = Command(*words, str(folder), log=tmp_path / "log")
        assert command.exit_code() == 2, command.said
        assert said in command.said
