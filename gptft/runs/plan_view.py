"""What a run will take -> lines and a table for a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from gptft.runs.plan import MemoryPlan, RunPlan
from gptft.terminal.draw import Table, columns_or_lines
from gptft.terminal.words import bytes_text, count, duration

_UNKNOWN = "not known"


def plan_view(plan: RunPlan) -> RenderableType:
    """Whether it fits, in the first line; then what it is made of, and what to change."""
    rows = [*_length(plan), *_memory(plan), *_disk(plan), *_time(plan)]
    shown: list[RenderableType] = [Text(verdict(plan)), columns_or_lines(Table(rows, "lrl"))]
    return Group(*shown, *map(Text, (*plan.advice, *plan.unknown)))


def verdict(plan: RunPlan) -> str:
    """The first line."""
    if plan.problems:
        return f"It does not fit: it {', and it '.join(plan.problems)}."
    memory = plan.memory
    if plan.fits is None or memory.peak_bytes is None or memory.free_bytes is None:
        return "Whether it fits isn't known."
    return (
        f"It fits: it needs {bytes_text(memory.peak_bytes)} of "
        f"{bytes_text(memory.free_bytes)} that are free."
    )


def _length(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    length = plan.length
    frozen = plan.parameters - plan.trained_parameters
    is_beside = plan.trained_parameters != plan.parameters
    note = f"{frozen:,} frozen" if is_beside and frozen > 0 else ""
    yield "trained parameters", f"{plan.trained_parameters:,}", note
    yield "parameters", f"{plan.parameters:,}", ""
    yield "tokens", f"{length.tokens:,}", f"{length.tokens_an_epoch:,} an epoch"
    yield "steps", f"{length.steps:,}", f"{count(plan.batch_size, 'block')} a batch"
    yield "epochs", f"{length.epochs:,.4g}", count(length.blocks, "block")


def _memory(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    memory = plan.memory
    if memory.libraries_bytes:
        yield "libraries", bytes_text(memory.libraries_bytes), ""
    yield "weights", bytes_text(memory.weights_bytes), ""
    yield "gradients", bytes_text(memory.gradients_bytes), ""
    yield "optimizer", bytes_text(memory.optimizer_bytes), ""
    if memory.average_bytes:
        yield "moving average", bytes_text(memory.average_bytes), ""
    yield "activations", _bytes(memory.activations_bytes), ""
    yield "logits", _bytes(memory.logits_bytes), ""
    yield "memory at most", _bytes(memory.peak_bytes), _how(memory)
    yield "memory free", _bytes(memory.free_bytes), ""
    if memory.largest_batch is not None:
        yield "largest batch", f"{memory.largest_batch:,}", "blocks of " + f"{plan.block_size:,}"


def _how(memory: MemoryPlan) -> str:
    return "measured in steps of the run" if memory.is_measured else "all of them together"


def _disk(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    disk = plan.disk
    note = "the model alone"
    if disk.checkpoints:
        each = bytes_text(disk.checkpoint_bytes)
        note = f"{count(disk.checkpoints, 'checkpoint')} at once, {each} each, and the model"
    yield "disk", bytes_text(disk.total_bytes), note
    yield "disk free", _bytes(disk.free_bytes), ""


def _time(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    time = plan.time
    if time.step_seconds is None or time.training_seconds is None:
        yield "time", _UNKNOWN, ""
        return
    how = "timed" if time.is_measured else "by its operations and this machine's speed"
    yield "a step", duration(time.step_seconds), how
    yield "training", duration(time.training_seconds), "without samples and checkpoints; ± 20%"


def _bytes(number: int | None) -> str:
    return _UNKNOWN if number is None else bytes_text(number)
