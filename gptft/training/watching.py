"""A run's Trainer -> the callbacks that show, log and sample what it does while it trains."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from gptft.console import Notify
from gptft.runs.checkpoints import Checkpoint
from gptft.training.evaluation import Measured
from gptft.training.profiling import Profiler
from gptft.training.progress import RunLog
from gptft.training.samples import SampleEvery, SampleWriter
from gptft.training.trackers import name_run, track_samples
from gptft.training.trainer import BlockTrainer


def watch(
    trainer: BlockTrainer,
    facts: Mapping[str, Any],
    log_file: Path,
    *,
    console: Console,
    held_out: Measured | None,
    checkpoint: Checkpoint | None,
    samples: SampleWriter,
    sample_steps: int | None,
    profile_steps: int | None,
    notify: Notify,
) -> Callable[[], None]:
    """Let a Trainer show and log what it does.

    Args:
        trainer: that will train.
        facts: what run.json says.
        log_file: metrics.jsonl.
        console: where progress is shown.
        held_out: what was measured of held-out text before training, if there is any.
        checkpoint: that is resumed from.
        samples: continues the prompts.
        sample_steps: how often; None for never while training.
        profile_steps: how many steps to profile; None for none.
        notify: told in a sentence what a person should know.

    Returns:
        what is to be called when training has ended, however it did.
    """
    name_run(trainer.args, facts)
    log = RunLog(
        log_file,
        console=console,
        num_tokens_seen=lambda: int(trainer.num_tokens_seen),
        bits_per_nat=_bits_per_nat(held_out),
    )
    # Behind what says whether a step is to be logged, and before the trackers of report_to.
    trainer.callback_handler.callbacks.insert(1, log)
    if trainer.eval_dataset is not None:
        notes: Mapping[str, object] = checkpoint.notes if checkpoint is not None else {}
        trainer.add_callback(trainer.say_turn(notify, was_said=bool(notes.get("turn_said"))))
    if sample_steps is not None:
        show = partial(_show, log, trainer)
        weights = trainer.kept.held
        every = SampleEvery(samples, steps=sample_steps, weights=weights, show=show)
        trainer.add_callback(every)
    at_end = ExitStack()
    if profile_steps is not None and trainer.is_world_process_zero():
        run_dir = log_file.parent
        profiler = Profiler(trainer, run_dir, steps=profile_steps, console=console, notify=notify)
        trainer.add_callback(profiler)
        at_end.callback(profiler.close)
    at_end.callback(log.close)  # the last one is called first
    return at_end.close


def _show(
    log: RunLog, trainer: BlockTrainer, prompts: Sequence[str], texts: Sequence[str], *, step: int
) -> None:
    """Show samples, and give them to trackers."""
    log.show_samples(prompts, texts, step=step)
    track_samples(trainer.callback_handler.callbacks, prompts, texts, step=step)


def _bits_per_nat(held_out: Measured | None) -> float | None:
    """Bits a byte of held-out text for each nat a token of its loss."""
    if held_out is None or not held_out.num_bytes:
        return None
    return held_out.num_tokens / held_out.num_bytes / math.log(2)
