"""The Trainer's callbacks -> a bar or a line a log step on stderr, and a row of metrics.jsonl."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.files import append_json_line

_WIDE, _NARROW = 90, 50  # columns of a terminal: for a bar and every figure; for a loss


class RunLog(TrainerCallback):
    """Writes every log step to metrics.jsonl and shows it.

    `tokens_per_second` counts all processes and the time since the last log step, with evaluation
    and saving in it.
    """

    def __init__(self, path: Path, *, console: Console, num_tokens_seen: Callable[[], int]) -> None:
        """Log to `path`, show on `console`; `num_tokens_seen` reads the trainer's count."""
        self._path = path
        self._console = console
        self._num_tokens_seen = num_tokens_seen
        self._last = (0.0, 0)  # seconds and tokens at the last log step
        self._bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock and, on a terminal, the bar."""
        self._last = (time.perf_counter(), self._num_tokens_seen())
        if state.is_world_process_zero and self._console.is_terminal:
            self._bar = Progress(*_columns(self._console.width), console=self._console)
            done = state.global_step
            self._bar.add_task("training", total=state.max_steps, completed=done, seen="")
            self._bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line to metrics.jsonl and show the step."""
        if not state.is_world_process_zero or not logs or "train_loss" in logs:
            return
        entry = {"step": state.global_step, "epoch": state.epoch, **logs}
        if "loss" in logs:
            # The other processes train on as many.
            entry["tokens_per_second"] = round(self._rate() * args.world_size, 1)
        append_json_line(self._path, entry)
        shown = _line(entry, short=self._bar is not None and self._is_narrow)
        if self._bar:
            self._bar.update(self._bar.task_ids[0], seen=shown)
        else:
            self._console.print(
                f"step {state.global_step:,}/{state.max_steps:,}  {shown}", markup=False
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the bar as it is."""
        self.close()

    def close(self) -> None:
        """Give the terminal back; safe to call twice."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    @property
    def _is_narrow(self) -> bool:
        return self._console.width < _WIDE

    def _rate(self) -> float:
        seconds, tokens = time.perf_counter(), self._num_tokens_seen()
        elapsed = max(seconds - self._last[0], 1e-9)
        rate = (tokens - self._last[1]) / elapsed
        self._last = (seconds, tokens)
        return rate


def _columns(width: int) -> list[ProgressColumn]:
    """Of a bar; a narrow terminal keeps the step, the time left, and the loss if it has room."""
    steps = TextColumn("step {task.completed:,.0f}/{task.total:,.0f}")
    seen = TextColumn("{task.fields[seen]}")
    left = [TextColumn("left"), TimeRemainingColumn()]
    if width < _WIDE:
        return [steps, *([seen] if width >= _NARROW else []), *left]
    return [steps, BarColumn(bar_width=None), seen, TimeElapsedColumn(), *left]


def _line(entry: Mapping[str, Any], *, short: bool = False) -> str:
    """The few figures of a log step that a person follows; `short` keeps the loss alone.

    >>> _line({"loss": 3.5, "learning_rate": 0.001, "tokens_per_second": 1234.5})
    'loss 3.500  lr 1.0e-03  1,234 tokens/s'
    """
    shown = []
    if "loss" in entry:
        shown.append(f"loss {float(entry['loss']):.3f}")
    if short:
        return shown[0] if shown else f"held out {entry.get('eval_loss', math.nan):.3f}"
    if "eval_loss" in entry:
        loss, perplexity = entry["eval_loss"], entry["eval_perplexity"]
        shown.append(f"validation loss {loss:.3f}  perplexity {perplexity:,.2f}")
    for key, words in (("eval_raw_loss", "raw weights"), ("eval_ema_loss", "averaged weights")):
        if key in entry:
            shown.append(f"{words} {entry[key]:.3f}")
    if "learning_rate" in entry:
        shown.append(f"lr {float(entry['learning_rate']):.1e}")
    if "tokens_per_second" in entry:
        shown.append(f"{entry['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(shown)
