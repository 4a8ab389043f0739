"""What a run does when it is told to end: real processes, real signals."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gptft.training.signals import Signals
from tests.training.folders import assert_same, facts, make_place, rows
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
  lr_scheduler_type: cosine
  per_device_train_batch_size: 1
  per_device_eval_batch_size: 1
  gradient_accumulation_steps: 2
  eval_strategy: steps
  eval_steps: 2
  use_cpu: true
  save_strategy: 'no'
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with my.yaml, and the run `whole` that nobody disturbed."""
    folder = make_place(tmp_path_factory.mktemp("place"), config=CONFIG, model=tiny_model_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTFT_CACHE", str(folder / "cache"))
        command = Command(*_words(folder, folder / "whole"), log=folder / "whole.log")
        assert command.exit_code() == 0, command.said
    return folder


def _words(place: Path, run_dir: Path, *flags: str) -> list[str]:
    return ["train", str(place / "my.yaml"), "--set", f"training.output_dir={run_dir}", *flags]


@pytest.fixture
def start(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Train into `tmp_path/runs/run`: `start("--resume", slow="steps")`."""
    monkeypatch.setenv("GPTFT_CACHE", str(place / "cache"))
    commands = []

    def begin(*flags: str, slow: str | None = None) -> Command:
        words = _words(place, tmp_path / "runs" / "run", *flags)
        command = Command(*words, log=tmp_path / f"{len(commands)}.log", slow=slow)
        commands.append(command)
        return command

    yield begin
    for command in commands:
        command.stop()


def assert_goes_on(start: Start, run_dir: Path, place: Path) -> None:
    """--resume, and the run is the one nobody disturbed."""
    command = start("--resume")
    assert command.exit_code() == 0, command.said
    assert_same(run_dir, place / "whole")


@pytest.mark.parametrize(
    ("name", "saves"), [("SIGTERM", "no"), ("SIGHUP", "steps"), ("SIGINT", "epoch")]
)
def test_a_signal_ends_a_run_within_a_step(
    start: Start, tmp_path: Path, place: Path, name: str, saves: str
):
    """With an answer at once, and the command to resume with at the end."""
    number = signal.Signals[name]
    every = ("--set", "training.save_steps=2") if saves == "steps" else ()
    strategy = ("--set", f"training.save_strategy={saves}", *every)
    command = start(*strategy, slow="steps").wait_for("step 3/6").send(number)
    assert command.exit_code() == 128 + number, command.said
    run_dir = tmp_path / "runs" / "run"
    told = facts(run_dir)
    assert told["state"] == "stopped"
    assert told["step"] in (3, 4)
    again = " again" if name == "SIGINT" else ""
    assert command.said.count(f"Stopping after this step; Ctrl-C{again} quits now.\n") == 1
    words = [word if word != "train" else "train --resume" for word in _words(place, run_dir)]
    assert (
        f"error: Stopped by {name} after step {told['step']}, which is saved. "
        f"Resume with --resume:\n  gptft {' '.join([*words, *strategy])}\n" in command.said
    )
    assert "Traceback" not in command.said
    assert (run_dir / "checkpoints" / f"checkpoint-{told['step']}" / "MANIFEST.json").is_file()
    assert not (run_dir / "model").exists()
    assert not (run_dir / ".lock").exists()
    assert_goes_on(start, run_dir, place)


@pytest.mark.slow
def test_python_m_gptft_takes_signals_too(tmp_path: Path, place: Path, start: Start):
    run_dir = tmp_path / "runs" / "run"
    words = _words(place, run_dir, "--set", "samples.prompts=[]")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gptft", *words],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"},
        )
    try:
        while process.poll() is None and "Training " not in (tmp_path / "log").read_text("utf-8"):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (143, 0)  # it may just have been done
    finally:
        process.kill()
        process.wait()
    if process.returncode == 143:
        assert "Stopped by SIGTERM" in (tmp_path / "log").read_text("utf-8")
    assert_goes_on(start, run_dir, place)


def test_sigusr1_saves_and_training_goes_on(start: Start, tmp_path: Path, place: Path):
    command = start(slow="steps").wait_for("step 2/6").send(signal.SIGUSR1)
    assert command.exit_code() == 0, command.said
    assert command.said.count("Saving after this step.\n") == 1
    (checkpoint,) = (tmp_path / "runs" / "run" / "checkpoints").iterdir()
    assert checkpoint.name in ("checkpoint-2", "checkpoint-3")
    assert_same(tmp_path / "runs" / "run", place / "whole")


def test_a_second_ctrl_c_quits_at_once_and_saves_nothing(start: Start, tmp_path: Path, place: Path):
    """In the middle of an update: those weights must never be in a checkpoint."""
    command = start(slow="optimizer").wait_for("half updated")
    begun = time.monotonic()
    command.send(signal.SIGINT)
    time.sleep(0.2)
    assert "Stopped" not in command.said
    assert command.send(signal.SIGINT).exit_code() == 130
    assert time.monotonic() - begun < 10
    assert "a second Ctrl-C, at once. Resume from the newest checkpoint" in command.said
    run_dir = tmp_path / "runs" / "run"
    assert facts(run_dir)["state"] == "stopped"
    assert not list(run_dir.rglob("*.safetensors"))
    assert_goes_on(start, run_dir, place)


def test_an_answer_comes_in_the_midst_of_a_long_call(start: Start, tmp_path: Path, place: Path):
    """Python takes no signal before a library's call is over, and a step may be one."""
    command = start(slow="long call").wait_for("calling").send(signal.SIGTERM)
    said = command.wait_for("Stopping after this step; Ctrl-C quits now.\n").said
    assert "called" not in said
    assert command.exit_code() == 143
    assert_goes_on(start, tmp_path / "runs" / "run", place)


def test_a_second_ctrl_c_quits_in_the_midst_of_a_long_call(
    start: Start, tmp_path: Path, place: Path
):
    command = start(slow="endless call").wait_for("calling").send(signal.SIGINT)
    command.wait_for("Stopping after this step; Ctrl-C again quits now.\n").send(signal.SIGINT)
    assert command.exit_code() == 130
    assert command.said.endswith("error: Stopped by SIGINT and a second Ctrl-C, at once.\n")
    assert_goes_on(start, tmp_path / "runs" / "run", place)


def test_what_nohup_ignores_stays_ignored():
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals = Signals()
        with signals.listen():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.stop is None
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.parametrize("phase", ["loading", "measuring"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_before_the_first_step_a_signal_leaves_no_trace(
    start: Start, tmp_path: Path, phase: str, name: str
):
    number = signal.Signals[name]
    command = start(slow=phase).wait_for(phase).send(number)
    assert command.exit_code() == 128 + number
    assert f"error: Stopped by {name} before the first step; nothing was lost." in command.said
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_texts_are_prepared(start: Start, tmp_path: Path):
    command = start(slow="preparing")
    command.wait_for("preparing").send(signal.SIGINT)
    assert command.exit_code() == 130
    assert "Traceback" not in command.said
    assert not (tmp_path / "runs").exists()


def test_a_long_evaluation_is_given_up_and_made_up_for(start: Start, tmp_path: Path, place: Path):
    command = start(slow="evaluating").wait_for("evaluating").send(signal.SIGTERM)
    assert command.exit_code() == 143, command.said
    assert "Stopping after this step; Ctrl-C quits now.\n" in command.said
    run_dir = tmp_path / "runs" / "run"
    assert facts(run_dir)["step"] == 4
    evaluated = [row["step"] for row in rows(run_dir / "metrics.jsonl") if "eval_loss" in row]
    assert evaluated == [2]
    assert_goes_on(start, run_dir, place)


def test_a_signal_while_a_checkpoint_is_written(start: Start, tmp_path: Path, place: Path):
    saving = ("--set", "training.save_strategy=steps", "--set", "training.save_steps=3")
    command = start(*saving, slow="committing").wait_for("committing").send(signal.SIGTERM)
    assert command.exit_code() == 143, command.said
    run_dir = tmp_path / "runs" / "run"
    names = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert f"checkpoint-{facts(run_dir)['step']}" in names
    assert all(name.startswith("checkpoint-") for name in names)
    command = start("--resume", *saving)
    assert command.exit_code() == 0, command.said
    assert_same(run_dir, place / "whole")


def test_a_signal_after_the_last_step_keeps_it(start: Start, tmp_path: Path, place: Path):
    command = start(slow="finishing").wait_for("finishing").send(signal.SIGTERM)
    assert command.exit_code() == 143, command.said
    assert "after step 6, which is saved" in command.said
    run_dir = tmp_path / "runs" / "run"
    assert not (run_dir / "model").exists()
    again = start("--resume")
    assert again.exit_code() == 0
    assert "Step 6 was the last one; nothing is left to train." in again.said
    assert_same(run_dir, place / "whole")


def test_a_model_that_is_being_written_is_finished(start: Start, tmp_path: Path, place: Path):
    command = start(slow="writing").wait_for("writing").send(signal.SIGTERM)
    assert command.exit_code() == 0, command.said
    assert "Writing the model first; Ctrl-C quits now.\n" in command.said
    assert_same(tmp_path / "runs" / "run", place / "whole")


def test_a_second_process_in_the_same_folder_is_refused(start: Start, tmp_path: Path, place: Path):
    first = start(slow="long steps").wait_for("step 1/6")
    run_dir = tmp_path / "runs" / "run"
    for flags in ((), ("--resume",), ("--overwrite",)):
        second = start(*flags)
        assert second.exit_code() == 2
        assert "error: " in second.said
        assert "nothing in it was touched" in second.said
        if flags:
            assert f"Another process is training in {run_dir}" in second.said
    assert first.exit_code() == 0, first.said
    assert_same(run_dir, place / "whole")


def test_a_killed_process_leaves_a_lock_that_holds_nobody(
    start: Start, tmp_path: Path, place: Path
):
    command = start(slow="steps").wait_for("step 2/6").send(signal.SIGKILL)
    assert command.exit_code() == -signal.SIGKILL
    run_dir = tmp_path / "runs" / "run"
    assert (run_dir / ".lock").is_file()
    assert facts(run_dir)["state"] == "running"
    refused = start()
    assert refused.exit_code() == 2
    assert "--resume" in refused.said
    assert_goes_on(start, run_dir, place)
    assert not (run_dir / ".lock").exists()


def test_a_killed_process_that_had_not_begun_leaves_the_folder_free(
    start: Start, tmp_path: Path, place: Path
):
    command = start(slow="measuring").wait_for("measuring").send(signal.SIGKILL)
    assert command.exit_code() == -signal.SIGKILL
    assert (tmp_path / "runs" / "run" / ".lock").is_file()
    assert start().exit_code() == 0
    assert_same(tmp_path / "runs" / "run", place / "whole")


class Ranks:
    """Two processes of one run, as a launcher starts them."""

    def __init__(self, place: Path, run_dir: Path, *flags: str, slow: str | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        words = _words(
            place,
            run_dir,
            "--set",
            "training.ddp_backend=gloo",
            "--set",
            "training.gradient_accumulation_steps=1",
            *flags,
        )
        self.commands = [
            Command(
                *words,
                log=run_dir.with_name(f"{run_dir.name}-{rank}.log"),
                slow=slow,
                environment={**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]

    def exit_codes(self) -> list[int]:
        return [command.exit_code() for command in self.commands]

    def stop(self) -> None:
        for command in self.commands:
            command.stop()


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_together(tmp_path: Path, place: Path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    ranks = Ranks(place, whole)
    assert ranks.exit_codes() == [0, 0], [c.said for c in ranks.commands]
    ranks = Ranks(place, run_dir, slow="steps")
    ranks.commands[0].wait_for("step 3/6")
    for command in ranks.commands:
        command.send(signal.SIGTERM)
    assert ranks.exit_codes() == [143, 143], [c.said for c in ranks.commands]
    told = facts(run_dir)
    assert told["state"] == "stopped"
    assert (run_dir / "checkpoints" / f"checkpoint-{told['step']}" / "MANIFEST.json").is_file()
    ranks = Ranks(place, run_dir, "--resume")
    assert ranks.exit_codes() == [0, 0], [c.said for c in ranks.commands]
    assert_same(run_dir, whole)
    alone = tmp_path / "alone"
    ranks = Ranks(place, alone, "--set", "training.save_strategy=steps", slow="long steps")
    ranks.commands[0].wait_for("step 3/6")
    ranks.commands[1].send(signal.SIGUSR1)
    time.sleep(0.5)
    ranks.commands[1].send(signal.SIGHUP)  # to one of them alone
    assert ranks.exit_codes() == [143, 129], [c.said for c in ranks.commands]
    ranks = Ranks(place, alone, "--resume")
    assert ranks.exit_codes() == [0, 0], [c.said for c in ranks.commands]
    assert_same(alone, whole)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_one_soon(tmp_path: Path, place: Path, victim: int):
    ranks = Ranks(place, tmp_path / "run", slow="steps")
    ranks.commands[0].wait_for("step 2/6")
    begun = time.monotonic()
    ranks.commands[victim].send(signal.SIGKILL)
    codes = ranks.exit_codes()
    assert time.monotonic() - begun < 60
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 1
    assert "Traceback" not in ranks.commands[1 - victim].said
    again = Ranks(place, tmp_path / "run", "--resume")
    assert again.exit_codes() == [0, 0], [c.said for c in again.commands]
