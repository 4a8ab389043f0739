"""Which runs there are and how each stands: real small runs, and folders made by hand."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.runs import status as status_module
from gptft.runs.find import find_runs
from gptft.runs.status import RunStatus, list_runs, status_of
from gptft.runs.verify import Verified, verify_runs
from tests.training.conftest import Run

HOLD = """
import sys, time
from pathlib import Path
from gptft.runs.run_folder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def make_run(folder: Path, *rows: dict[str, Any] | str, **facts: Any) -> Path:
    """A run folder with nothing but run.json and metrics.jsonl."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {}, **facts}), encoding="utf-8")
    if rows:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def add_checkpoint(run_dir: Path, *, step: int, max_steps: int) -> Path:
    """A checkpoint as the sizes of its files tell it; its checksums are of nothing."""
    folder = run_dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    text = json.dumps({"global_step": step, "max_steps": max_steps}, indent=2)
    (folder / "trainer_state.json").write_text(text, encoding="utf-8")
    files = {"trainer_state.json": {"size": len(text), "sha256": ""}}
    manifest = {"format": 1, "step": step, "notes": {}, "files": files}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def at(path: Path, seconds: float) -> Path:
    """Let a run's last sign of life be then."""
    for file in path.iterdir():
        os.utime(file, (seconds, seconds))
    return path


@contextmanager
def held(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process at work in a run folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def only(folder: Path) -> RunStatus:
    [status] = list_runs(folder).runs
    return status


def verified(*folders: Path) -> dict[str, tuple[str, ...]]:
    return {one.path.name: one.problems for one in verify_runs(folders)}


@pytest.fixture
def done(run: Run, tmp_path: Path) -> Path:
    """A real run of three steps, with a checkpoint after each."""
    run("run", training={"save_strategy": "steps", "save_steps": 1})
    return tmp_path / "run"


def test_a_real_run_that_is_done(done: Path, tiny_model_dir: Path):
    rows = (done / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert only(done) == RunStatus(
        path=done,
        state="done",
        reason=None,
        step=3,
        num_steps=3,
        loss=json.loads(rows[-1])["loss"],
        held_out_loss=None,
        best_step=None,
        checkpoint=3,
        base=tiny_model_dir.name,
        data="texts",
        seed=42,
        seen=(done / "run.json").stat().st_mtime,
    )
    assert list_runs(done.parent).runs == (only(done),)
    assert verified(done) == {
        "run": (),
        "checkpoint-3": (),
        "checkpoint-2": (),
        "checkpoint-1": (),
    }


def test_a_changed_byte_is_found_by_verify_and_a_changed_size_by_both(done: Path):
    newest = done / "checkpoints" / "checkpoint-3"
    flip_bit(newest / "model.safetensors")
    flip_bit(newest / "optimizer.pt")
    assert only(done).state == "done"
    assert verified(done)["checkpoint-3"] == (
        "model.safetensors isn't what was written",
        "optimizer.pt isn't what was written",
    )
    (newest / "scheduler.pt").unlink()
    assert only(done).state == "damaged"
    assert only(done).reason == "checkpoint-3: scheduler.pt is missing"
    assert len(verified(done)["checkpoint-3"]) == 3
    assert verified(done)["checkpoint-2"] == ()
    with (newest / "model.safetensors").open("ab") as file:
        file.write(b"!")
    size = (newest / "model.safetensors").stat().st_size
    assert only(done).reason == (
        f"checkpoint-3: model.safetensors has {size:,} bytes, not {size - 1:,}"
    )
    (newest / "MANIFEST.json").write_text('{"step": 3}', encoding="utf-8")
    assert only(done).reason == "checkpoint-3: MANIFEST.json can't be read"
    assert verified(done)["checkpoint-3"][0].startswith("MANIFEST.json")
    (newest / "MANIFEST.json").unlink()
    assert verified(done)["checkpoint-3"] == ("it has no MANIFEST.json",)


def test_the_model_of_a_run_that_is_done_is_whole_or_the_run_is_damaged(done: Path):
    weights = done / "model" / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("rb+") as file:
        file.truncate(size - 7)
    assert only(done).state == "damaged"
    assert only(done).reason == f"model/model.safetensors has {size - 7:,} bytes, not {size:,}"
    assert verified(done)["run"] == (only(done).reason,)
    weights.write_bytes(b"")
    assert only(done).reason == "model/model.safetensors is no safetensors file"
    weights.write_bytes((99_999).to_bytes(8, "little") + b"[" * 99_999)
    assert only(done).reason == "model/model.safetensors is no safetensors file"
    weights.unlink()
    assert only(done).reason == "model/model.safetensors is missing"
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (done / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert only(done).reason == "model/model-00001-of-00002.safetensors is missing"
    (done / "model" / "config.json").unlink()
    assert only(done).reason == "model/config.json is missing"
    shutil.rmtree(done / "model")
    assert only(done).reason == "model/ is missing"


def test_running_is_what_a_process_is_at_work_on(tmp_path: Path):
    folder = make_run(tmp_path / "my", {"step": 7, "loss": 2.5}, state="running")
    add_checkpoint(folder, step=5, max_steps=40)
    with held(folder) as process:
        status = only(folder)
        assert (status.state, status.reason) == ("running", None)
        assert (status.step, status.num_steps, status.loss, status.checkpoint) == (7, 40, 2.5, 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (folder / ".lock").exists()
        assert only(folder).state == "stopped"
        assert "no process is at work" in str(only(folder).reason)


def test_stopped_and_failed_say_where_and_why(tmp_path: Path):
    stopped = make_run(tmp_path / "a", {"step": 10, "loss": 3.0}, state="stopped", step=14)
    failed = make_run(tmp_path / "b", state="failed", step=4, error="Disk full:\n /x needs 9 MB.")
    assert (only(stopped).state, only(stopped).step, only(stopped).reason) == ("stopped", 14, None)
    assert (only(failed).state, only(failed).step) == ("failed", 4)
    assert only(failed).reason == "Disk full: /x needs 9 MB."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"state": "do', "can't be read"),
        ("[]", "holds no run"),
        ("{}", "says nothing of the run's state"),
        ("[" * 100_000, "nested too deeply"),
        ("\x00", "can't be read"),
    ],
)
def test_a_run_json_that_is_none_is_damage(tmp_path: Path, text: str, said: str):
    folder = make_run(tmp_path / "my", {"step": 2, "loss": 1.5})
    (folder / "run.json").write_text(text, encoding="utf-8")
    status = only(folder)
    assert (status.state, status.step, status.loss) == ("damaged", 2, 1.5)
    assert str(status.reason).startswith("run.json")
    assert said in str(status.reason)
    assert verified(folder)["my"] == (status.reason,)


def test_step_and_loss_are_the_last_that_were_logged(tmp_path: Path):
    rows = (
        {"step": 10, "loss": 3.5},
        {"step": 20, "loss": 3.25},
        {"step": 20, "eval_loss": 9.0},
        '{"step": 30, "lo',
    )
    status = only(make_run(tmp_path / "torn", *rows, state="running"))
    assert (status.step, status.loss) == (20, 3.25)
    many = [{"step": n, "loss": n / 8, "pad": "x" * 100} for n in range(1, 2_001)]
    status = only(make_run(tmp_path / "long", *many, state="running"))
    assert (status.step, status.loss) == (2_000, 250.0)
    status = only(make_run(tmp_path / "none", state="running"))
    assert (status.step, status.loss, status.num_steps) == (None, None, None)
    result = {"steps": 25, "train": {"loss_after": 2.0}}
    status = status_of(make_run(tmp_path / "quiet", state="done", result=result))
    assert (status.step, status.num_steps, status.loss) == (25, 25, 2.0)


VALIDATED = {"validation": {"loss_before": 6.0, "loss_after": 4.25}, "best": {"step": 20}}


@pytest.mark.parametrize(
    ("rows", "facts", "held_out", "best"),
    [
        ([(10, 4.5), (20, 4.0), (30, 4.75)], {}, 4.75, 20),
        ([(10, 6.5)], {"before": {"validation": {"loss": 6.0}}}, 6.5, 0),
        ([], {"before": {"validation": {"loss": 6.0}}}, 6.0, 0),
        ([(10, 4.5), (20, None)], {}, math.nan, 10),
        # resumed from step 10: what was logged later before that doesn't count any more
        ([(10, 4.5), (20, 1.0), (11, 4.75)], {}, 4.75, 10),
        ([(10, 3.0)], {"state": "done", "result": VALIDATED}, 4.25, 20),
        ([(10, "much")], {"before": {"validation": None}, "result": []}, math.nan, None),
        ([], {"before": [1]}, None, None),
    ],
)
def test_held_out_loss_and_its_best_step(
    tmp_path: Path, rows: list[Any], facts: dict[str, Any], held_out: float | None, best: int | None
):
    logged = [{"step": step, "eval_loss": loss} for step, loss in rows]
    folder = make_run(tmp_path / "my", *logged, **{"state": "stopped", **facts})
    status = status_of(folder)
    assert status.held_out_loss == pytest.approx(held_out, nan_ok=True)
    assert status.best_step == best


def test_of_a_log_too_long_to_be_read_the_best_step_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [{"step": n, "eval_loss": 9 - n / 100} for n in range(1, 100)]
    folder = make_run(tmp_path / "my", *rows, state="stopped")
    assert status_of(folder).best_step == 99
    monkeypatch.setattr(status_module, "_QUICK", 1_000)
    status = status_of(folder)
    assert (status.held_out_loss, status.best_step) == (8.01, None)


@pytest.mark.parametrize(
    ("config", "base", "data"),
    [
        ({"model": {"name": "pico"}, "data": {"train": ["a/poem.txt"]}}, "pico", "poem.txt"),
        ({"model": {"name": "runs/a/model"}, "data": {"train": "b"}}, "a", "b"),
        (
            {"model": {"name": "owner/name"}, "data": {"train": ["hub:x/y:train", {"path": "z"}]}},
            "owner/name",
            "hub:x/y:train, z",
        ),
        ({"data": {"train": ["a", "b", "c", "d"]}}, None, "a, b and 2 more"),
        ({"model": {"from_scratch": {"model_type": "gpt2"}}, "data": None}, "new gpt2", None),
        ({"model": ["pico"], "data": {"train": {"path": 3}}}, None, None),
        ({"model": {"name": "a\0b"}, "data": {"train": ["/"]}}, "a\0b", "/"),
        ([], None, None),
    ],
)
def test_what_a_run_was_made_of(tmp_path: Path, config: Any, base: str | None, data: str | None):
    status = status_of(make_run(tmp_path / "my", state="stopped", config=config))
    assert (status.base, status.data) == (base, data)


@pytest.mark.slow
def test_a_log_of_200_megabytes_is_listed_at_once(tmp_path: Path):
    folder = make_run(tmp_path / "my", state="stopped")
    row = json.dumps({"step": 1, "loss": 2.5, "pad": "x" * 1_000}) + "\n"
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:
        for _ in range(200):
            log.write(row * (1_000_000 // len(row)))
        log.write('{"step": 190000, "loss": 1.5}\n{"step": 190')
    assert (folder / "metrics.jsonl").stat().st_size > 199_000_000
    tracemalloc.start()
    begun = time.perf_counter()
    status = only(folder)
    seconds = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (status.step, status.loss) == (190_000, 1.5)
    assert seconds < 1
    assert peak < 2_000_000


@pytest.mark.parametrize("loss", ["NaN", "null"])
def test_a_loss_that_is_no_number_is_null_in_json(tmp_path: Path, loss: str):
    rows = ({"step": 1, "loss": 3.0}, f'{{"step": 2, "loss": {loss}}}')
    status = only(make_run(tmp_path / "my", *rows, state="failed"))
    assert str(status.loss) == "nan"
    assert as_json(status)["loss"] is None


def test_how_many_steps_a_run_has_is_what_was_last_asked_for(tmp_path: Path):
    def num_steps(name: str, *, asked: int, step: int) -> int | None:
        config = {"training": {"max_steps": asked}}
        row = {"step": step, "loss": 1.0}
        folder = make_run(tmp_path / name, row, state="running", config=config)
        add_checkpoint(folder, step=20, max_steps=20)
        return only(folder).num_steps

    assert num_steps("by-epochs", asked=-1, step=20) == 20
    assert num_steps("extended", asked=50, step=21) == 50
    assert num_steps("extended-by-epochs", asked=-1, step=21) is None


def test_runs_are_sorted_by_their_last_sign_of_life(tmp_path: Path):
    for name, seconds in (("middle", 2_000), ("oldest", 1_000), ("свежий", 3_000)):
        at(make_run(tmp_path / name, {"step": 1, "loss": 1.0}, state="stopped"), seconds)
    os.utime(tmp_path / "oldest" / "metrics.jsonl", (2_500, 2_500))
    names = [(run.path.name, run.seen) for run in list_runs(tmp_path).runs]
    assert names == [("свежий", 3_000), ("oldest", 2_500), ("middle", 2_000)]


def test_runs_are_found_three_folders_deep_and_not_inside_runs_parts(tmp_path: Path):
    make_run(tmp_path / "a", state="stopped")
    make_run(tmp_path / "model" / "c" / "d", state="stopped")
    make_run(tmp_path / "1" / "2" / "3" / "too-deep", state="stopped")
    for inside in ("checkpoints", "model", "earlier", ".failed"):
        make_run(tmp_path / "a" / inside / "x", state="stopped")
        (tmp_path / "a" / inside / "run.json").write_text("{}", encoding="utf-8")
    make_run(tmp_path / "a" / "sweep" / "b", state="stopped")
    found, unreadable = find_runs(tmp_path)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in found)
    assert names == ["a", "a/sweep/b", "model/c/d"]
    assert unreadable == []


def test_links_are_followed_once(tmp_path: Path):
    runs = tmp_path / "runs"
    elsewhere = make_run(tmp_path / "elsewhere", state="stopped")
    make_run(runs / "z" / "my", state="stopped")
    (runs / "again").symlink_to(runs)
    (runs / "latest").symlink_to(runs / "z" / "my")
    (runs / "linked").symlink_to(elsewhere)
    (runs / "nowhere").symlink_to(runs / "none")
    (runs / "self").symlink_to(runs / "self")
    found, unreadable = find_runs(runs)
    assert found == [runs / "z" / "my", runs / "linked"]
    assert unreadable == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path / "open", state="stopped")
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_runs(tmp_path)
    assert [run.path.name for run in listing.runs] == ["open"]
    assert listing.unreadable == ((closed, "can't be read (Permission denied)"),)
    assert Verified(closed, ("can't be read (Permission denied)",)) in verify_runs([tmp_path])
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        list_runs(closed)


def test_what_holds_no_run_is_named_before_anything_is_read(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert list_runs(tmp_path / "empty").runs == ()
    with pytest.raises(ConfigError) as caught:
        verify_runs([tmp_path / "empty", tmp_path / "none", tmp_path / "file"])
    assert len(caught.value.problems) == 3
