"""The Trainer's callbacks -> a live view or lines on stderr, and rows of metrics.jsonl."""

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.files import append_json_line
from gptft.runs.progress import TRAINING, Pace, RunProgress
from gptft.runs.progress_view import progress_lines
from gptft.terminal.draw import Drawn
from gptft.terminal.live import LiveLines
from gptft.terminal.text import escaped, harmless, quoted
from gptft.training.trackers import add_perplexity

_MARKS = {"\n": "↵"}
_MOST_OF_A_LINE = 500  # characters of a sample off a terminal; samples.jsonl has it all


class RunLog(TrainerCallback):
    """Writes every log step to metrics.jsonl and shows it.

    `tokens_per_second` counts all processes and the time since the last log step, with evaluation
    and saving in it. A callback that stands behind this one is told it, too, and bits a byte. A
    step costs the setting of a number: the view draws itself, four times a second.
    """

    def __init__(
        self,
        path: Path,
        *,
        console: Console,
        num_tokens_seen: Callable[[], int],
        bits_per_nat: float | None = None,
    ) -> None:
        """Log to `path`, show on `console`.

        Args:
            path: metrics.jsonl.
            console: a terminal has the view, anything else a line a log step.
            num_tokens_seen: reads the trainer's count.
            bits_per_nat: bits a byte of held-out text for a loss of 1 nat a token, if known.
        """
        self._path = path
        self._console = console
        self._num_tokens_seen = num_tokens_seen
        self._bits_per_nat = bits_per_nat
        self._last = (0.0, 0)  # seconds and tokens at the last log step
        self._progress, self._pace = RunProgress(), Pace(step=0)
        self._began = 0.0
        self._view: LiveLines | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock and, on a terminal, the view."""
        self._began = time.perf_counter()
        self._last = (self._began, self._num_tokens_seen())
        step = state.global_step
        self._progress = RunProgress(stage="beginning", step=step, num_steps=state.max_steps)
        self._progress.take_all(state.log_history)
        self._pace = Pace(step=step)
        if state.is_world_process_zero and self._console.is_terminal:
            told = self._name_stage
            self._view = LiveLines(self.view, self._console, leaves=True, told=told)
            self._view.start()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A step is made."""
        self._progress.stage = TRAINING

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A step is done; what comes next stands in `control`."""
        self._progress.step = state.global_step
        if control.should_evaluate:
            self._progress.stage = "measuring held-out text"
        elif control.should_save:
            self._progress.stage = "saving a checkpoint"

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Held-out text is measured."""
        self._progress.stage = "saving a checkpoint" if control.should_save else TRAINING

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint is saved."""
        self._progress.stage = TRAINING

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: MutableMapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line to metrics.jsonl and show the step; trackers get what is added, too."""
        if not state.is_world_process_zero or not logs or "train_loss" in logs:
            return
        if "loss" in logs:
            # The other processes train on as many.
            logs["tokens_per_second"] = round(self._rate() * args.world_size, 1)
        if "eval_loss" in logs and self._bits_per_nat is not None:
            logs["eval_bits_per_byte"] = logs["eval_loss"] * self._bits_per_nat
        entry = {"step": state.global_step, "epoch": state.epoch, **logs}
        append_json_line(self._path, entry)
        add_perplexity(logs)
        self._progress.take(entry)
        if self._view is None:
            of = f"step {state.global_step:,}/{state.max_steps:,}"
            self._console.print(f"{of}  {_line(entry)}", markup=False)

    def show_samples(self, prompts: Sequence[str], texts: Sequence[str], *, step: int) -> None:
        """Show what the model writes: whole above the view, off a terminal a line each."""
        for prompt, text in zip(prompts, texts, strict=True):
            self._progress.sample = (step, prompt, text)
            if self._view is not None:
                said = harmless(f"{prompt}{text}".encode(errors="replace"))
                self._console.print(Text(f"--- sample at step {step:,}:\n{said}"))
            else:
                said = f"{escaped(prompt, _MARKS)} → {quoted(text, at_most=_MOST_OF_A_LINE)}"
                self._console.print(f"sample at step {step:,}: {said}", markup=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the last figures where they are."""
        self.close()

    def close(self) -> None:
        """Give the terminal back; safe to call twice."""
        view, self._view = self._view, None
        self._progress.is_over = True
        if view is not None:
            view.stop()

    @property
    def view(self) -> Drawn:
        """What is drawn, as it is when it is drawn."""
        return Drawn(lambda console, width: self.lines(width))

    def lines(self, width: int) -> list[Text]:
        """The view as it is now, each line at most `width` cells."""
        progress, now = self._progress, time.perf_counter()
        self._pace.see(progress.step, now)
        if progress.is_over:
            seconds: float | None = now - self._began
        else:
            seconds = self._pace.seconds_left(progress.num_steps, now)
        return progress_lines(progress, width=width, seconds=seconds)

    def _name_stage(self, doing: str | None) -> None:
        self._progress.doing = doing

    def _rate(self) -> float:
        seconds, tokens = time.perf_counter(), self._num_tokens_seen()
        elapsed = max(seconds - self._last[0], 1e-9)
        rate = (tokens - self._last[1]) / elapsed
        self._last = (seconds, tokens)
        return rate


def _line(entry: Mapping[str, Any]) -> str:
    """The few figures of a log step that a person follows.

    >>> _line({"loss": 3.5, "grad_norm": 0.81, "learning_rate": 1e-3, "tokens_per_second": 1234.5})
    'loss 3.500  lr 1.0e-03  grad norm 0.81  1,234 tokens/s'
    """
    shown = []
    if "loss" in entry:
        shown.append(f"loss {float(entry['loss']):.3f}")
    if "eval_loss" in entry:
        loss, perplexity = entry["eval_loss"], entry["eval_perplexity"]
        shown.append(f"validation loss {loss:.3f}  perplexity {perplexity:,.2f}")
    for key, words in (("eval_raw_loss", "raw weights"), ("eval_ema_loss", "averaged weights")):
        if key in entry:
            shown.append(f"{words} {entry[key]:.3f}")
    if "learning_rate" in entry:
        shown.append(f"lr {float(entry['learning_rate']):.1e}")
    if "grad_norm" in entry:
        shown.append(f"grad norm {float(entry['grad_norm']):.3g}")
    if "tokens_per_second" in entry:
        shown.append(f"{entry['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(shown)
