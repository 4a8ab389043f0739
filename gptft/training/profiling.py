"""Some steps of a run -> a trace of them, and where a step's time went; the weights stay the same.

torch's profiler only watches. The parts of a step are told by the calls of the Trainer's methods;
on an accelerator each waits for what was begun in it.
"""

import functools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.console import Notify
from gptft.errors import RunError
from gptft.files import write_json
from gptft.terminal.draw import Table, columns_or_lines
from gptft.terminal.text import escaped
from gptft.terminal.words import count, percent
from gptft.training.trainer import BlockTrainer

PROFILE_DIR = "profile"
_WARM_UP = 2  # steps that are left out, where the run has more: they allocate and compile
_OURS = "gptft: "  # begins the names of parts in the trace
_TOP = 10  # operators that are shown
# By its part of a step, what of a Trainer does it.
_METHODS = {
    "data": "get_batch_samples",
    "forward": "compute_loss",
    "evaluation": "evaluate",
    "checkpoints": "write_checkpoint",
    "logging": "between_steps",  # without the two before, which lie in it
}
_ORDER = ("data", "forward", "backward", "optimizer", "logging", "evaluation", "checkpoints")
_REST = "the rest"  # clipping, samples, callbacks


class Profiler(TrainerCallback):
    """Profiles so many steps of a run, once."""

    def __init__(
        self, trainer: BlockTrainer, run_dir: Path, *, steps: int, console: Console, notify: Notify
    ) -> None:
        """Watch `trainer`, write to `run_dir` and show on `console`."""
        self._trainer, self._folder = trainer, run_dir / PROFILE_DIR
        self._steps, self._console, self._notify = steps, console, notify
        self._profile: profile | None = None
        self._first: int | None = None  # the step that is done when it begins
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._parts: list[str] = []  # from the outermost to the innermost
        self._mark = self._began = 0.0
        for part, name in _METHODS.items():
            self._watch(trainer, name, part)
        self._watch(trainer.accelerator, "backward", "backward")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin, or end what is done after the last step."""
        done = state.global_step
        if self._first is None:
            left = state.max_steps - done
            self._first = done + (_WARM_UP if left > _WARM_UP else 0)
        if done == self._first and self._profile is None:
            self._begin()
        elif self._profile is not None and done >= self._first + self._steps:
            self._end(self._profile, self._first, done - self._first)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The optimizer's step begins."""
        self._enter("optimizer")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The optimizer's step is done."""
        self._leave("optimizer")

    def close(self) -> None:
        """End where training ended, if that was before the last step to profile."""
        first = self._first or 0
        done = self._trainer.state.global_step - first
        if self._profile is not None and done > 0:
            self._end(self._profile, first, done)
        elif self._profile is not None:
            self._profile.stop()
        self._profile, self._first = None, -1 - self._steps

    def _watch(self, owner: Any, name: str, part: str) -> None:
        """Let a method of one object be seen as a part of a step."""
        method: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(method)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._part(part):
                return method(*args, **kwargs)

        setattr(owner, name, watched)

    @contextmanager
    def _part(self, part: str) -> Iterator[None]:
        is_on = self._profile is not None
        if is_on:
            self._enter(part)
        try:
            with record_function(f"{_OURS}{part}"):
                yield
        finally:
            if is_on:
                self._leave(part)

    def _enter(self, part: str) -> None:
        if self._profile is not None:
            self._count()
            self._parts.append(part)

    def _leave(self, part: str) -> None:
        if self._profile is not None and self._parts[-1:] == [part]:
            self._count()
            self._parts.pop()

    def _count(self) -> None:
        """Count the time since the last change for the innermost part."""
        if torch.cuda.is_available() and self._trainer.args.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._seconds[self._parts[-1] if self._parts else _REST] += now - self._mark
        self._mark = now

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self._trainer.args.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        with _stderr_shut():
            self._profile.start()
        self._mark = self._began = time.perf_counter()

    def _end(self, profiled: profile, done_before: int, num_steps: int) -> None:
        """Write the trace and what it says.

        Raises:
            RunError: it can't be written.
        """
        self._count()
        self._profile = None
        with _stderr_shut():
            profiled.stop()
        first, last = done_before + 1, done_before + num_steps
        trace = self._folder / f"steps-{first}-{last}.json.gz"
        parts = {part: self._seconds[part] / num_steps for part in (*_ORDER, _REST)}
        operators = _operators(profiled, num_steps)
        try:
            self._folder.mkdir(exist_ok=True)
            profiled.export_chrome_trace(str(trace))
            facts = {"first_step": first, "last_step": last, "seconds_a_step": parts}
            write_json(trace.with_name(f"steps-{first}-{last}.summary.json"), facts)
        except OSError as error:
            raise RunError(f"{trace} can't be written: {error.strerror}. Make room.") from error
        self._console.print(columns_or_lines(_parts_table(parts, num_steps)))
        self._console.print(columns_or_lines(_operators_table(operators, sum(parts.values()))))
        self._notify(f"Trace: {trace}. Open it in https://ui.perfetto.dev.")


@contextmanager
def _stderr_shut() -> Iterator[None]:
    """Let nobody write to stderr: Kineto says there that it begins and ends (torch 2.13)."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _operators(profiled: profile, num_steps: int) -> list[tuple[str, float, float]]:
    """Names, calls a step and seconds a step within them alone, the slowest first."""
    found = []
    for event in profiled.key_averages():
        if event.key.startswith((_OURS, "ProfilerStep", "Optimizer.")):
            continue
        here = event.self_device_time_total or event.self_cpu_time_total  # in µs
        found.append((event.key, event.count / num_steps, here / num_steps / 1e6))
    return sorted(found, key=lambda one: -one[2])[:_TOP]


def _parts_table(parts: dict[str, float], num_steps: int) -> Table:
    total = sum(parts.values()) or 1.0
    shown = [*parts.items(), ("a step", total)]
    rows = [(name, f"{1000 * s:,.1f}", percent(s / total)) for name, s in shown]
    return Table(rows, "lrr", heads=(f"mean of {count(num_steps, 'step')}", "ms", "share"))


def _operators_table(operators: list[tuple[str, float, float]], total: float) -> Table:
    rows = [
        (escaped(name), f"{calls:,.1f}", f"{1000 * s:,.2f}", percent(s / (total or 1.0)))
        for name, calls, s in operators
    ]
    return Table(rows, "lrrr", heads=("operator", "calls a step", "ms a step", "share"))
