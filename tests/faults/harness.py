"""Runs that are killed and hindered by the hundred, and what they leave beside a whole one's.

In: a `Lab`: a tiny config, its texts, the folder of one uninterrupted run. Out: exit codes, what
was said, and the differences between two run folders. Every run is the real command line in a fork
of a process that has imported everything and trained nothing, so that it costs a second, not ten.
Such a process must hold no thread pool: use `python -m tests.faults`, never a test's own process.
"""

import ctypes
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptft.runs.checkpoints import Skipped, list_checkpoints, newest_valid
from gptft.runs.run_folder import LOCK
from tests.conftest import SENTENCES

STEPS = 12
SNAPSHOT = 9  # the step that hindered saves come after
KEPT = 3
INTERPOSER = "GPTFT_FAULTS_INTERPOSER"  # set where the interposer is loaded
WATCH, FULL, BROKEN, KILL = range(4)  # modes of interpose.c
_PATIENCE = 120.0  # seconds a run may take
_TIMINGS = ("tokens_per_second", "seconds", "run_dir", "model_dir")

_CONFIG = f"""\
model:
  from_scratch: {{model_type: gpt2, n_layer: 2, n_head: 2, n_embd: 32, n_positions: 64}}
tokenizer:
  train: {{vocab_size: 320, min_frequency: 2}}
data:
  train: TEXTS
  block_size: 32
  shift_blocks: true
  validation: 0.2
training:
  max_steps: {STEPS}
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1.0e-3
  save_strategy: steps
  save_steps: 1
  save_total_limit: {KEPT}
  logging_steps: 1
  eval_strategy: steps
  eval_steps: 5
  use_cpu: true
  seed: 7
samples:
  prompts: ["Буря", "The"]
  steps: 3
generation: {{strategy: greedy, max_new_tokens: 4}}
"""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, -9 where it was killed, and all it said."""

    code: int
    said: str


@dataclass
class Trial:
    """One fault, and the promises that it broke.

    Attributes:
        name: what was done.
        broken: a sentence a broken promise.
        counts: numbers to be added up over trials.
        note: what came of it, where that isn't the same for all.
        cells: the same in columns of a table.
    """

    name: str
    broken: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""
    cells: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lab:
    """A folder to work in, with the run that nothing hindered.

    Attributes:
        folder: everything is below it.
        seconds: what the uninterrupted run took.
    """

    folder: Path
    seconds: float = 0.0

    @property
    def config(self) -> Path:
        """The YAML that all runs share."""
        return self.folder / "run.yaml"

    @property
    def reference(self) -> Path:
        """The uninterrupted run."""
        return self.folder / "reference"

    @property
    def snapshot(self) -> Path:
        """A run that was killed after step `SNAPSHOT`."""
        return self.folder / "snapshot"


def import_all() -> None:
    """Import what runs need, without a thread; forks have it from here."""
    import torch

    torch.set_num_threads(1)
    import gptft.api.training
    import gptft.cli.app
    import gptft.cli.train
    import gptft.data.prepare
    import gptft.decoding.engine
    import gptft.report.html
    import gptft.report.model_card
    import gptft.training.train  # noqa: F401

    gc.collect()
    gc.freeze()


def open_lab(folder: Path) -> Lab:
    """Write texts and config, and do the run that all others are compared with."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number in range(12):
        lines = [SENTENCES[(number + i) % 4][number : 40 + number] for i in range(3 + number)]
        (texts / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    lab = Lab(folder)
    lab.config.write_text(_CONFIG.replace("TEXTS", str(texts)), encoding="utf-8")
    for name in ("warm-up", "reference"):  # the first one prepares the blocks
        started = time.perf_counter()
        ended = run(lab, folder / name)
        if ended.code:
            raise RuntimeError(f"the uninterrupted run failed:\n{ended.said}")
    taken = time.perf_counter() - started
    if wrong := differences(lab, folder / "warm-up"):
        raise RuntimeError(f"two uninterrupted runs differ: {wrong}")
    run(lab, lab.snapshot, before=lambda: kill_after_save(SNAPSHOT))
    return Lab(folder, taken)


def run(
    lab: Lab,
    run_dir: Path,
    *options: str,
    before: Callable[[], object] = lambda: None,
    meanwhile: Callable[[int], object] = lambda pid: None,
) -> Ended:
    """`gptft train` in a fork.

    Args:
        lab: where its config is.
        run_dir: the run folder.
        options: of the command line.
        before: called in the fork, before the command.
        meanwhile: called with the fork's process id, here.
    """
    words = ["gptft", "train", str(lab.config), "--set", f"training.output_dir={run_dir}", *options]
    return fork(lambda: _command(words, before), run_dir.with_suffix(".log"), meanwhile=meanwhile)


def fork(
    work: Callable[[], int],
    log: Path,
    *,
    meanwhile: Callable[[int], object] = lambda pid: None,
) -> Ended:
    """Do `work` in a fork whose output goes to `log`; its value is the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    meanwhile(pid)
    deadline = time.monotonic() + _PATIENCE
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ended(-1, f"hung for {_PATIENCE:.0f} s\n{log.read_text(errors='replace')}")
        time.sleep(0.002)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), said)


def _command(words: Sequence[str], before: Callable[[], object]) -> int:
    from gptft.cli import main

    sys.argv[:] = words
    before()
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def kill_after_save(step: int) -> None:
    from gptft.training.trainer import BlockTrainer

    original = BlockTrainer._save_checkpoint

    def save(self: Any, model: Any, trial: Any) -> None:
        original(self, model, trial)
        if self.state.global_step == step:
            self.wait_for_commit()
            os.kill(os.getpid(), signal.SIGKILL)

    BlockTrainer._save_checkpoint = save  # type: ignore[method-assign]


def copy_snapshot(lab: Lab, name: str) -> Path:
    """A fresh copy of the run that stopped after step `SNAPSHOT`."""
    run_dir = lab.folder / name
    shutil.rmtree(run_dir, ignore_errors=True)
    shutil.copytree(lab.snapshot, run_dir)
    return run_dir


def differences(lab: Lab, run_dir: Path) -> list[str]:
    """In what a finished run isn't the uninterrupted one, bit for bit, timings apart."""
    if not (run_dir / "model").is_dir():
        return ["there is no model"]
    found = []
    ours, theirs = _model_files(run_dir), _model_files(lab.reference)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            found.append(f"model/{name} differs")
    for name in ("metrics.jsonl", "samples.jsonl"):
        mine, whole = _rows(run_dir / name), _rows(lab.reference / name)
        if mine != whole:
            steps = [row.get("step") for row in mine]
            found.append(f"{name} differs: {len(mine)} rows, not {len(whole)}; steps {steps}")
    facts, whole = (_facts(path) for path in (run_dir, lab.reference))
    if facts.get("state") != "done":
        found.append(f"run.json says {facts.get('state')}")
    if _untimed(facts.get("result", {})) != _untimed(whole["result"]):
        found.append("run.json has another result")
    for name in ("config.yaml", "report.html", "model/README.md"):
        if not (run_dir / name).is_file():
            found.append(f"{name} is missing")
    return found


def leftovers(run_dir: Path) -> list[str]:
    """Files and folders that only a run at work should have."""
    hidden = [*run_dir.glob(".*"), *(run_dir / "checkpoints").glob(".*")]
    # A lock holds as long as its process lives, whatever becomes of the file.
    found = [path.relative_to(run_dir) for path in hidden if path.name != LOCK]
    return [f"{path} was left behind" for path in found]


def state_of_checkpoints(run_dir: Path) -> tuple[int, list[Skipped]]:
    """The step of the newest whole checkpoint, 0 for none, and the newer broken ones."""
    checkpoint, skipped = newest_valid(run_dir / "checkpoints")
    return (checkpoint.step if checkpoint else 0), skipped


def lost_steps(run_dir: Path) -> list[str]:
    """Whether a killed run keeps all but the step it was in and the save that was on its way."""
    step, skipped = state_of_checkpoints(run_dir)
    found = [f"{one.name} is damaged: {one.reason}" for one in skipped]
    logged = max((row["step"] for row in _rows(run_dir / "metrics.jsonl")), default=0)
    if step < logged - 2:
        names = [one.path.name for one in list_checkpoints(run_dir / "checkpoints")]
        found.append(f"step {logged} was trained, and step {step} is the newest kept, of {names}")
    return found


def finish(lab: Lab, run_dir: Path) -> list[str]:
    """Go on to the end with --resume; the promises that breaks."""
    ended = run(lab, run_dir, "--resume")
    if ended.code:
        return [f"--resume ended with {ended.code}: {last_line(ended.said)}"]
    return [*differences(lab, run_dir), *leftovers(run_dir)]


def last_line(said: str) -> str:
    """The last line of what a run said that isn't empty: its error, if it had one."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["nothing was said"])[-1][:400]


def _model_files(run_dir: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (run_dir / "model").iterdir()
        if path.name != "README.md"  # it tells the seconds
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(_untimed(json.loads(line)))
        except ValueError:
            rows.append({"step": 0, "torn": line})
    return rows


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _TIMINGS}


def _facts(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "run.json"
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts


def build_interposer(folder: Path) -> Path | None:
    """Compile interpose.c; None where there is no C compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    built = folder / "interpose.so"
    source = Path(__file__).with_name("interpose.c")
    words = [compiler, "-shared", "-fPIC", "-O2", "-o", str(built), str(source), "-ldl"]
    subprocess.run(words, check=True)
    return built


def has_interposer() -> bool:
    """Whether this process was started with it."""
    return INTERPOSER in os.environ


def arm(folder: Path, *, at: int, mode: int, log: Path) -> None:
    """From now on fault the `at`-th call on files below `folder`; log every one."""
    library = ctypes.CDLL(None)
    names = (str(folder.resolve()).encode(), str(log).encode())
    library.fault_arm(names[0], ctypes.c_long(at), mode, names[1])


def disarm() -> None:
    """Fault nothing more."""
    ctypes.CDLL(None).fault_disarm()


def arm_save(folder: Path, *, step: int, at: int, mode: int, log: Path) -> None:
    """Fault the `at`-th call of the save at `step` alone."""
    from gptft.training.checkpoint_saving import CheckpointSaver
    from gptft.training.trainer import BlockTrainer

    save, commit = BlockTrainer._save_checkpoint, CheckpointSaver._commit

    def armed_save(self: Any, model: Any, trial: Any) -> None:
        if self.state.global_step != step:
            save(self, model, trial)
            return
        arm(folder, at=at, mode=mode, log=log)
        try:
            save(self, model, trial)
        except BaseException:
            disarm()
            raise

    def armed_commit(self: Any, *args: Any, **kwargs: Any) -> Any:  # in a thread, meanwhile
        try:
            return commit(self, *args, **kwargs)
        finally:
            if kwargs["step"] == step:
                disarm()

    BlockTrainer._save_checkpoint = armed_save  # type: ignore[method-assign]
    CheckpointSaver._commit = armed_commit  # type: ignore[method-assign]


@dataclass(frozen=True)
class Call:
    """A call that the interposer saw."""

    number: int
    name: str
    size: int
    path: str


def read_calls(log: Path) -> list[Call]:
    """What the interposer wrote down."""
    if not log.is_file():
        return []
    rows = [line.split("\t", 3) for line in log.read_text(encoding="utf-8").splitlines()]
    return [Call(int(number), name, int(size), path) for number, name, size, path in rows]


def spread(work: Callable[[int], list[Trial]], *, jobs: int, folder: Path) -> list[Trial]:
    """Call `work` with each number below `jobs`, in as many forks, and gather their trials."""
    pids = []
    for number in range(jobs):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                trials = [vars(trial) for trial in work(number)]
                (folder / f"trials-{number}.json").write_text(json.dumps(trials), encoding="utf-8")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    gathered = []
    for number, pid in enumerate(pids):
        if os.waitpid(pid, 0)[1]:
            gathered.append(Trial(f"worker {number}", ["the harness itself failed"]))
            continue
        path = folder / f"trials-{number}.json"
        gathered += [Trial(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        path.unlink()
    return gathered
