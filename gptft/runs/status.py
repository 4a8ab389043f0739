"""A folder -> how each run below it stands, told from names, sizes, the ends of logs and a lock."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gptft.files import JsonFields, last_json_lines, read_json_lines, read_tail
from gptft.runs.checkpoints import Checkpoint, find_size_damage, list_checkpoints
from gptft.runs.endings import why_early
from gptft.runs.find import cannot_read, find_runs
from gptft.runs.held_out import held_out_curve, lowest
from gptft.runs.origins import base_of, data_of, seed_of
from gptft.runs.read import Point, as_float, as_int, as_mapping, curve_of
from gptft.runs.run_folder import is_held
from gptft.runs.verify import facts_problem, model_problem

State = Literal["running", "done", "stopped", "failed", "damaged"]

_MAX_STEPS = re.compile(rb'"max_steps":\s*(\d+)')
_QUICK = 2_000_000  # bytes of a log that is read from its beginning; of a longer one only the end


@dataclass(frozen=True)
class RunStatus(JsonFields):
    """How a run stands.

    Attributes:
        path: its folder.
        state: `running` only while a process is at work; `stopped` and `failed` can be resumed.
        reason: why it isn't done, where that is known, or was before its last step.
        step: optimizer updates so far.
        num_steps: those of the whole run, where they are known.
        loss: the last training loss logged, in nats a token.
        held_out_loss: of the model kept, or the last logged, in nats a token.
        best_step: where held-out loss was lowest; 0 is before training. None where it isn't known,
            as for a run that isn't done and has logged for very long.
        checkpoint: the step of the newest checkpoint.
        base: the model that training began with, in short.
        data: the texts it trains on, in short.
        seed: of training.
        seen: when run.json or metrics.jsonl was last written, in seconds since 1970.
    """

    path: Path
    state: State
    reason: str | None
    step: int | None
    num_steps: int | None
    loss: float | None
    held_out_loss: float | None
    best_step: int | None
    checkpoint: int | None
    base: str | None
    data: str | None
    seed: int | None
    seen: float

    def json_fields(self) -> dict[str, Any]:
        """All of it by name, the time as text."""
        seen = datetime.fromtimestamp(self.seen, UTC).isoformat(timespec="seconds")
        return {**super().json_fields(), "seen": seen}


@dataclass(frozen=True)
class Listing(JsonFields):
    """What is below a folder.

    Attributes:
        runs: the one that was written to last first.
        unreadable: folders that can't be read, each with the reason.
    """

    runs: tuple[RunStatus, ...]
    unreadable: tuple[tuple[Path, str], ...]

    def json_fields(self) -> dict[str, Any]:
        """All of it by name."""
        unreadable = [{"path": path, "reason": reason} for path, reason in self.unreadable]
        return {"runs": self.runs, "unreadable": unreadable}


def list_runs(folder: Path) -> Listing:
    """The runs in a folder and up to three folders deep below it; it may be a run itself.

    Raises:
        ConfigError: there is no such folder, or it can't be read.
    """
    paths, unreadable = find_runs(folder)
    found: list[RunStatus] = []
    for path in paths:
        try:
            found.append(status_of(path))
        except OSError as error:
            unreadable.append((path, cannot_read(error)))
    return Listing(tuple(sorted(found, key=lambda run: -run.seen)), tuple(unreadable))


def status_of(run_dir: Path) -> RunStatus:
    """How a run stands; quick however large its checkpoints are.

    Raises:
        OSError: its folder can't be read.
    """
    held = is_held(run_dir)  # first: a run says "done" before it lets go
    seen = _last_sign(run_dir)
    facts, problem = facts_problem(run_dir)
    checkpoints = list_checkpoints(run_dir / "checkpoints")
    newest = checkpoints[0] if checkpoints else None
    state, reason = _state(facts, held=held)
    if state != "running":
        problem = problem or (model_problem(run_dir, facts) if state == "done" else None)
        if problem is None and newest and (damage := find_size_damage(newest.path)):
            problem = f"{newest.path.name}: {damage}"
        state, reason = ("damaged", problem) if problem else (state, reason)
    rows = [*last_json_lines(run_dir / "metrics.jsonl")]
    step = _step(facts, rows, newest)
    held_out, best = _held_out(facts, run_dir / "metrics.jsonl", rows)
    return RunStatus(
        path=run_dir,
        state=state,
        reason=reason,
        step=step,
        num_steps=_num_steps(facts, newest, step=step),
        loss=_loss(facts, rows),
        held_out_loss=held_out,
        best_step=best,
        checkpoint=newest.step if newest else None,
        base=base_of(facts),
        data=data_of(facts),
        seed=seed_of(facts),
        seen=seen,
    )


def _last_sign(run_dir: Path) -> float:
    times = []
    for path in (run_dir / "metrics.jsonl", run_dir / "run.json"):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times) if times else run_dir.stat().st_mtime


def _state(facts: Mapping[str, Any], *, held: bool) -> tuple[State, str | None]:
    match facts.get("state"):
        case "running" if held:
            return "running", None
        case "running":
            return "stopped", "no process is at work on it: killed, or the machine went down"
        case "failed":
            error = facts.get("error")
            return "failed", " ".join(error.split()) if isinstance(error, str) else None
        case "done":
            return "done", _why_early(as_mapping(facts.get("result")))
    return "stopped", None


def _why_early(result: Mapping[str, Any]) -> str | None:
    """Why a run that is done made fewer steps than were planned."""
    steps, planned = (as_int(result.get(name)) for name in ("steps", "planned_steps"))
    if not (why := why_early(result)) or steps is None or planned is None:
        return None
    return f"after step {steps:,} of {planned:,}: {why}"


def _step(
    facts: Mapping[str, Any], rows: list[dict[str, Any]], newest: Checkpoint | None
) -> int | None:
    """The optimizer updates so far: as the run said at its end, else as it last logged or saved."""
    if facts.get("state") == "done":
        done = as_int(as_mapping(facts.get("result")).get("steps"))
        if done is not None:
            return done
    ended = as_int(facts.get("step")) if facts.get("state") in ("stopped", "failed") else None
    logged = next((step for row in rows if (step := as_int(row.get("step"))) is not None), None)
    known = [step for step in (ended, logged) if step is not None]
    return max(known) if known else newest.step if newest else None


def _num_steps(
    facts: Mapping[str, Any], newest: Checkpoint | None, *, step: int | None
) -> int | None:
    """The steps of the whole run; None where what is known is of before it was extended."""
    if facts.get("state") == "done":
        return as_int(as_mapping(facts.get("result")).get("steps"))
    training = as_mapping(as_mapping(facts.get("config")).get("training"))
    planned = as_int(training.get("max_steps")) or 0
    if planned <= 0 and newest is not None:  # 0 and -1 mean: as many as the epochs have
        said = _MAX_STEPS.findall(read_tail(newest.path / "trainer_state.json"))
        planned = int(said[-1]) if said else 0
    return planned if planned > 0 and planned >= (step or 0) else None


def _loss(facts: Mapping[str, Any], rows: list[dict[str, Any]]) -> float | None:
    for row in rows:
        if "loss" in row:  # a log has null for what isn't finite
            return math.nan if row["loss"] is None else as_float(row["loss"])
    return as_float(as_mapping(as_mapping(facts.get("result")).get("train")).get("loss_after"))


def _held_out(
    facts: Mapping[str, Any], log: Path, rows: list[dict[str, Any]]
) -> tuple[float | None, int | None]:
    """The held-out loss of a run, and the step where it was lowest.

    Args:
        facts: what run.json says.
        log: metrics.jsonl.
        rows: its last, the latest first.
    """
    result = as_mapping(facts.get("result"))
    if facts.get("state") == "done" and result:
        loss = as_float(as_mapping(result.get("validation")).get("loss_after"))
        return loss, as_int(as_mapping(result.get("best")).get("step"))
    before = as_mapping(as_mapping(facts.get("before")).get("validation")).get("loss")
    points: list[Point] = [] if before is None else [(0, as_float(before) or math.nan)]
    is_all_known = False
    with suppress(OSError):  # a log that isn't there has no rows
        if is_all_known := not log.exists() or log.stat().st_size <= _QUICK:
            rows = read_json_lines(log)[0][::-1]
    points = held_out_curve([*points, *curve_of(rows[::-1], "eval_loss")], None, model_step=None)
    best = lowest(points) if is_all_known else None
    return points[-1][1] if points else None, best[0] if best else None
