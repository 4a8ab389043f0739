"""The faults themselves: kills, failing calls, damaged files, full disks.

In: a lab. Out: trials, each with the promises it broke.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gptft.runs.checkpoints import MANIFEST, STAGING
from tests.faults import harness
from tests.faults.harness import BROKEN, FULL, KEPT, KILL, SNAPSHOT, STEPS, WATCH, Lab, Trial

_MOST_KILLS = 6  # of one run
_AGAIN = 0.6  # how often a run that goes on is killed again
_SAVE_SECONDS = 0.1
MODES = {"disk full": FULL, "input/output error": BROKEN, "kill -9": KILL}


def random_kills(lab: Lab, *, kills: int, seed: int) -> list[Trial]:
    """Kill runs at random moments and in saves, again while they go on, until `kills` are done."""
    trials: list[Trial] = []
    done = 0
    while done < kills:
        dice = random.Random(f"{seed}/{len(trials)}")
        trial = _killed_run(lab, f"kill-{seed}-{len(trials)}", dice, at_most=kills - done)
        done += trial.counts["kills"]
        trials.append(trial)
    return trials


def _killed_run(lab: Lab, name: str, dice: random.Random, *, at_most: int) -> Trial:
    run_dir = lab.folder / name
    trial = Trial(name, counts={"kills": 0, "in a save": 0, "while going on": 0})
    options: tuple[str, ...] = ()
    share = 1.0
    while trial.counts["kills"] < min(at_most, _MOST_KILLS):
        if options and dice.random() > _AGAIN:
            break
        in_save = dice.random() < 0.5
        moment = dice.uniform(0, _SAVE_SECONDS if in_save else lab.seconds * share)
        place = _Place(run_dir / "checkpoints" / STAGING, dice.randint(1, 4)) if in_save else None
        ended = harness.run(
            lab, run_dir, *options, meanwhile=lambda pid, p=place, m=moment: _kill(pid, p, m)
        )
        if ended.code == 0:
            break
        if ended.code != -signal.SIGKILL:
            trial.broken.append(f"ended with {ended.code}: {harness.last_line(ended.said)}")
            break
        trial.counts["kills"] += 1
        trial.counts["in a save"] += in_save
        trial.counts["while going on"] += bool(options)
        trial.broken += harness.lost_steps(run_dir)
        share = 1 - 0.7 * harness.state_of_checkpoints(run_dir)[0] / STEPS
        options = ("--resume",)
    trial.broken += harness.finish(lab, run_dir)
    if not trial.broken:
        shutil.rmtree(run_dir, ignore_errors=True)
    return trial


class _Place:
    """The beginning of a save: its `number`-th from now."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number


def _kill(pid: int, place: _Place | None, moment: float) -> None:
    """Wait for the place, then for the moment, and kill; nothing where it has ended before."""
    if place is not None:
        was_there = place.path.exists()
        left = place.number
        while left and not _has_ended(pid):
            is_there = place.path.exists()
            left -= is_there and not was_there
            was_there = is_there
            time.sleep(0.0005)
    until = time.monotonic() + moment
    while time.monotonic() < until and not _has_ended(pid):
        time.sleep(min(0.002, max(until - time.monotonic(), 0)))
    if not _has_ended(pid):
        os.kill(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def calls_of_a_save(lab: Lab) -> list[harness.Call]:
    """All that one save asks of the file system, as far as the interposer sees it."""
    run_dir, log = harness.copy_snapshot(lab, "watched-save"), lab.folder / "watched-save.calls"
    harness.run(
        lab,
        run_dir,
        "--resume",
        before=lambda: harness.arm_save(run_dir, step=SNAPSHOT + 1, at=0, mode=WATCH, log=log),
    )
    return harness.read_calls(log)


def calls_of_a_run(lab: Lab) -> list[harness.Call]:
    """All that one run asks of the file system, from its first file to its report."""
    run_dir, log = lab.folder / "watched-run", lab.folder / "watched-run.calls"
    harness.run(lab, run_dir, before=lambda: harness.arm(run_dir, at=0, mode=WATCH, log=log))
    return harness.read_calls(log)


def faulted_save(lab: Lab, *, at: int, how: str, resume: bool) -> Trial:
    """Fault the `at`-th call of the save after the snapshot, then go on."""
    trial = Trial(f"save, call {at}, {how}", counts={how: 1})
    run_dir = harness.copy_snapshot(lab, f"save-{MODES[how]}-{at}")
    log = run_dir.with_suffix(".calls")
    log.unlink(missing_ok=True)
    ended = harness.run(
        lab,
        run_dir,
        "--resume",
        before=lambda: harness.arm_save(
            run_dir, step=SNAPSHOT + 1, at=at, mode=MODES[how], log=log
        ),
    )
    step, skipped = harness.state_of_checkpoints(run_dir)
    if step < SNAPSHOT:
        trial.broken.append(f"the newest whole checkpoint is of step {step}")
    trial.broken += [f"{one.name} is damaged: {one.reason}" for one in skipped]
    _judge(lab, trial, run_dir, ended, log=log, at=at, how=how, resume=resume)
    return trial


def faulted_run(lab: Lab, *, at: int, how: str, resume: bool) -> Trial:
    """Fault the `at`-th call of a whole run, then go on, or begin."""
    trial = Trial(f"run, call {at}, {how}", counts={how: 1})
    run_dir = lab.folder / f"run-{MODES[how]}-{at}"
    log = run_dir.with_suffix(".calls")
    ended = harness.run(
        lab, run_dir, before=lambda: harness.arm(run_dir, at=at, mode=MODES[how], log=log)
    )
    trial.broken += harness.lost_steps(run_dir)
    _judge(lab, trial, run_dir, ended, log=log, at=at, how=how, resume=resume)
    return trial


def _judge(
    lab: Lab,
    trial: Trial,
    run_dir: Path,
    ended: harness.Ended,
    *,
    log: Path,
    at: int,
    how: str,
    resume: bool,
) -> None:
    """Was it said, and is all well after `--resume`?"""
    calls = harness.read_calls(log)
    if len(calls) < at:
        trial.counts = {"not reached": 1}
    else:
        call = calls[at - 1]
        trial.name += f" ({call.name} {call.path})"
        if how == "kill -9" and ended.code != -signal.SIGKILL:
            trial.broken.append(f"wasn't killed: {ended.code}")
        elif how != "kill -9" and ended.code == 0:
            trial.counts[f"{how}, borne"] = 1
            trial.broken += [
                f"exit code 0, and {what}" for what in harness.differences(lab, run_dir)
            ]
        elif how != "kill -9":
            if ended.code != 1:
                trial.broken.append(f"exit code {ended.code}")
            if how == "disk full" and not _says_full(ended.said, path=call.path):
                trial.broken.append(f"didn't say Disk full: {harness.last_line(ended.said)}")
    if resume:
        trial.counts["resumed"] = 1
        trial.broken += harness.finish(lab, run_dir)
    if not trial.broken:
        shutil.rmtree(run_dir, ignore_errors=True)
        log.unlink(missing_ok=True)


def _says_full(said: str, *, path: str) -> bool:
    """Whether a person is told that the disk is full, in a sentence that says what to do."""
    if "Disk full" in said:
        return True
    of_a_save = path.startswith("checkpoints/")
    told = harness.last_line(said)
    return not of_a_save and "No space left on device" in told and "OSError" not in told


def damages(dice: random.Random) -> dict[str, Callable[[Path, Path], bool]]:
    """Ways to spoil a file, given the file of that name of another step; False: nothing changed."""

    def delete(path: Path, other: Path) -> bool:
        path.unlink()
        return True

    def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], bool]:
        def spoil(path: Path, other: Path) -> bool:
            whole = path.read_bytes()
            path.write_bytes(change(whole))
            return path.read_bytes() != whole

        return spoil

    def swap(path: Path, other: Path) -> bool:
        whole = path.read_bytes()
        path.write_bytes(other.read_bytes())
        return path.read_bytes() != whole

    def flip(data: bytes) -> bytes:
        at = dice.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]

    ways: dict[str, Callable[[Path, Path], bool]] = {
        "deleted": delete,
        "emptied": rewrite(lambda data: b""),
        "cut in half": rewrite(lambda data: data[: len(data) // 2]),
        "one byte short": rewrite(lambda data: data[:-1]),
        "one byte long": rewrite(lambda data: data + b"\0"),
        "zeroed": rewrite(lambda data: bytes(len(data))),
        "second half zeroed": rewrite(
            lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
        ),
        "of another step": swap,
    }
    for number in range(5):
        ways[f"one bit flipped ({number + 1})"] = rewrite(flip)
    return ways


def damaged_files(lab: Lab, *, resumes: int, seed: int) -> list[Trial]:
    """Spoil every file of the newest checkpoint in every way; resume after some of them."""
    dice = random.Random(seed)
    names = sorted(p.name for p in (lab.snapshot / "checkpoints" / _step(SNAPSHOT)).iterdir())
    cases = [(name, way) for name in names for way in damages(dice)]
    resumed = set(dice.sample(range(len(cases)), min(resumes, len(cases))))
    trials = []
    for number, (name, way) in enumerate(cases):
        trial = Trial(f"{name} {way}", counts={"spoiled": 1})
        run_dir = harness.copy_snapshot(lab, "damaged")
        newest = run_dir / "checkpoints" / _step(SNAPSHOT)
        other = newest.with_name(_step(SNAPSHOT - 1)) / name
        if not damages(dice)[way](newest / name, other):
            trial.counts = {"the same bytes": 1}
        else:
            trial.broken += _is_skipped(run_dir, name)
        if number in resumed:
            trial.counts["resumed"] = 1
            trial.broken += harness.finish(lab, run_dir)
        trials.append(trial)
    return trials


def _is_skipped(run_dir: Path, name: str) -> list[str]:
    step, skipped = harness.state_of_checkpoints(run_dir)
    if [one.name for one in skipped] != [_step(SNAPSHOT)]:
        return [f"SILENT: step {step} is taken, and {skipped} skipped"]
    if step != SNAPSHOT - 1:
        return [f"fell back to step {step}, not {SNAPSHOT - 1}"]
    return [] if name in skipped[0].reason else [f"doesn't name the file: {skipped[0].reason}"]


def damaged_checkpoints(lab: Lab) -> list[Trial]:
    """Spoil the newest one, two, and all; a stranger's file and folder; go on from each."""
    trials = []
    for number in range(1, KEPT + 1):
        trial = Trial(f"the newest {number} without weights", counts={"spoiled": 1, "resumed": 1})
        run_dir = harness.copy_snapshot(lab, "damaged")
        for step in range(SNAPSHOT, SNAPSHOT - number, -1):
            (run_dir / "checkpoints" / _step(step) / "model.safetensors").write_bytes(b"")
        ended = harness.run(lab, run_dir, "--resume")
        told = ended.said.count("Skipped checkpoint-")
        if told != number or "model.safetensors" not in ended.said:
            trial.broken.append(f"told of {told} skipped, not {number}")
        trial.broken += [*harness.differences(lab, run_dir), *harness.leftovers(run_dir)]
        trials.append(trial)
    trial = Trial("a file and a folder of somebody's own", counts={"spoiled": 1, "resumed": 1})
    run_dir = harness.copy_snapshot(lab, "damaged")
    folder = run_dir / "checkpoints"
    (folder / _step(SNAPSHOT) / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "mine.bin").write_bytes(b"mine")
    trial.broken += _is_skipped(run_dir, "notes.txt")
    trial.broken += harness.finish(lab, run_dir)
    if not (folder / "checkpoint-1" / "mine.bin").is_file():
        trial.broken.append("a folder that isn't ours was removed")
    return [*trials, trial]


def _step(step: int) -> str:
    return f"checkpoint-{step}"


@contextmanager
def small_disk(lab: Lab, *, size: int) -> Iterator[Path | None]:
    """A tmpfs of `size` bytes; None where this machine doesn't let us mount one."""
    folder = lab.folder / "small"
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disks(lab: Lab, *, levels: Iterable[float]) -> list[Trial] | None:
    """Train on a small disk until it is full, then on a larger one; None where none can be had.

    Args:
        lab: a lab.
        levels: how full the disk is before the save after the snapshot, in shares of a checkpoint
            that is still free; whatever `check_room` would say, as if a neighbour had been quicker.
    """
    trials = []
    with small_disk(lab, size=6_000_000) as folder:
        if folder is None:
            return None
        trials.append(_train_until_full(lab, folder / "run"))
    for level in levels:
        with small_disk(lab, size=6_000_000) as folder:
            if folder is not None:
                trials.append(_fill_before_save(lab, folder, level))
    return trials


def _train_until_full(lab: Lab, run_dir: Path) -> Trial:
    trial = Trial("all checkpoints kept until the disk is full", counts={"filled": 1})
    keep_all = ("--set", "training.save_total_limit=null")
    ended = harness.run(lab, run_dir, *keep_all)
    _expect_full(trial, run_dir, ended)
    _enlarge(run_dir.parent)
    trial.broken += harness.finish(lab, run_dir)
    return trial


def _fill_before_save(lab: Lab, folder: Path, level: float) -> Trial:
    trial = Trial(f"{level:.2f} of a checkpoint is free", counts={"filled": 1})
    run_dir = folder / "run"
    shutil.copytree(lab.snapshot, run_dir)
    one = sum(p.stat().st_size for p in (run_dir / "checkpoints" / _step(SNAPSHOT)).iterdir())

    def before() -> None:
        from gptft.runs import disk
        from gptft.training.trainer import BlockTrainer

        original = BlockTrainer._save_checkpoint

        def save(self: BlockTrainer, model: object, trial: object) -> None:
            if self.state.global_step == SNAPSHOT + 1:
                disk.check_room = lambda *args, **kwargs: None
                page = 4096
                spare = shutil.disk_usage(folder).free - int(one * level) // page * page
                (folder / "neighbour").write_bytes(bytes(max(spare, 0)))
            original(self, model, trial)

        BlockTrainer._save_checkpoint = save  # type: ignore[method-assign]

    ended = harness.run(lab, run_dir, "--resume", before=before)
    _expect_full(trial, run_dir, ended)
    if harness.state_of_checkpoints(run_dir)[0] < SNAPSHOT:
        trial.broken.append("older checkpoints are gone")
    _enlarge(folder)
    trial.broken += harness.finish(lab, run_dir)
    return trial


def _enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def _expect_full(trial: Trial, run_dir: Path, ended: harness.Ended) -> None:
    if ended.code != 1:
        trial.broken.append(f"exit code {ended.code}")
    if "Disk full" not in ended.said:
        trial.broken.append(f"didn't say Disk full: {harness.last_line(ended.said)}")
    step, skipped = harness.state_of_checkpoints(run_dir)
    if not step or skipped:
        trial.broken.append(f"step {step} is the newest whole one; skipped {skipped}")


def limited_files(lab: Lab, *, limits: Iterable[int]) -> list[Trial]:
    """Files that may not grow past a limit of the process: what fails everywhere."""
    trials = []
    for limit in limits:
        trial = Trial(f"no file past {limit:,} bytes", counts={"limited": 1})
        run_dir = harness.copy_snapshot(lab, "limited")
        ended = harness.run(
            lab,
            run_dir,
            "--resume",
            before=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        _expect_full(trial, run_dir, ended)
        trial.broken += harness.finish(lab, run_dir)
        trials.append(trial)
    return trials


def unseen_bytes(calls: Iterable[harness.Call], checkpoint: Path) -> dict[str, tuple[int, int]]:
    """Files of a checkpoint of which the interposer saw fewer bytes than there are."""
    written: dict[str, int] = {}
    for call in calls:
        if "write" in call.name:
            name = Path(call.path).name
            name = "model.safetensors" if name.startswith(".tmp") else name
            written[name] = written.get(name, 0) + call.size
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    sizes.pop(MANIFEST, None)
    return {n: (written.get(n, 0), s) for n, s in sizes.items() if written.get(n, 0) < s}
