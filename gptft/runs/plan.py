"""What a run is made of, in bytes and steps -> what it will take, and what to change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gptft.files import JsonFields
from gptft.runs.plan_sizes import Length, Measured, Sizes
from gptft.terminal.words import bytes_text

_ROOM = 0.95  # of the memory that is free may be planned with
# A trained weight, by fused AdamW on one thread of a CPU (docs/experiments.md).
_UPDATE_SECONDS = 1.8e-9


@dataclass(frozen=True)
class MemoryPlan:
    """Memory in bytes; the parts are added up, and the peak is measured where it could be.

    Attributes:
        is_measured: whether the peak is that of a process that made steps of the run.
        free_bytes: None where the system doesn't tell.
        largest_batch: blocks that fit; None where that isn't known.
    """

    libraries_bytes: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    average_bytes: int
    activations_bytes: int | None
    logits_bytes: int | None
    peak_bytes: int | None
    is_measured: bool
    free_bytes: int | None
    largest_batch: int | None


@dataclass(frozen=True)
class DiskPlan:
    """Disk in bytes: checkpoints that are there at once, and the model."""

    checkpoint_bytes: int
    checkpoints: int
    model_bytes: int
    total_bytes: int
    free_bytes: int | None


@dataclass(frozen=True)
class TimePlan:
    """Seconds: of a step, of training with its evaluations, and of everything.

    Attributes:
        is_measured: whether steps were timed; else they are told by operations.
        step_cpu_seconds: of the processor; None where it wasn't measured.
    """

    is_measured: bool
    step_seconds: float | None
    step_cpu_seconds: float | None
    training_seconds: float | None
    total_seconds: float | None


@dataclass(frozen=True)
class RunPlan(JsonFields):
    """What a run will take.

    Attributes:
        run_dir: where it would go.
        device: cpu, cuda or mps.
        fits: whether memory and disk suffice; None where that can't be told.
        problems: what doesn't fit, a sentence each.
        advice: what to change, a sentence each, the gentlest first.
        unknown: what couldn't be found out, and why, a sentence each.
    """

    run_dir: Path
    device: str
    fits: bool | None
    parameters: int
    trained_parameters: int
    length: Length
    batch_size: int
    block_size: int
    memory: MemoryPlan
    disk: DiskPlan
    time: TimePlan
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    unknown: tuple[str, ...]


def plan_run(
    sizes: Sizes,
    length: Length,
    *,
    run_dir: Path,
    free: int | None,
    free_disk: int | None,
    measured: Measured | None,
    flops_a_second: float | None,
    unknown: tuple[str, ...] = (),
) -> RunPlan:
    """What a run will take, beside what is there.

    Args:
        sizes: of its model and batch.
        length: of the run.
        run_dir: where it would go.
        free: bytes of memory, None where the system doesn't tell.
        free_disk: bytes.
        measured: steps of it, where some were made.
        flops_a_second: of the machine, where none were.
        unknown: what couldn't be found out, a sentence each.
    """
    memory = _memory(sizes, free, measured)
    disk = _disk(sizes, length, free_disk)
    problems = tuple(_problems(memory, disk, sizes, run_dir))
    is_known = memory.peak_bytes is not None and free is not None
    return RunPlan(
        run_dir=run_dir, device=sizes.device,
        fits=False if problems else True if is_known else None,
        parameters=sizes.parameters, trained_parameters=sizes.trained, length=length,
        batch_size=sizes.batch_size, block_size=sizes.block_size, memory=memory, disk=disk,
        time=_time(sizes, length, measured, flops_a_second), problems=problems,
        advice=tuple(_advice(sizes, memory, disk)), unknown=unknown,
    )  # fmt: skip


def _memory(sizes: Sizes, free: int | None, measured: Measured | None) -> MemoryPlan:
    batch, peak = sizes.batch, sizes.peak()
    found = None if measured is None else measured.peak_bytes
    off = 0 if found is None or peak is None else found - peak
    return MemoryPlan(
        libraries_bytes=sizes.libraries,
        weights_bytes=sizes.weights,
        gradients_bytes=sizes.gradients,
        optimizer_bytes=sizes.optimizer,
        average_bytes=sizes.average,
        activations_bytes=None if batch is None else batch.activations(sizes.batch_size),
        logits_bytes=None if batch is None else batch.logits(sizes.batch_size, sizes.block_size),
        peak_bytes=peak if found is None else found,
        is_measured=found is not None,
        free_bytes=free,
        largest_batch=largest_batch(sizes, free, beside=off),
    )


def largest_batch(sizes: Sizes, free: int | None, *, beside: int = 0) -> int | None:
    """How many blocks a batch can have; 0 where not even one fits.

    Args:
        sizes: of the run.
        free: bytes of memory.
        beside: bytes that a measured run took beyond the sizes.
    """
    if free is None or sizes.batch is None:
        return None
    most = int(_ROOM * free)

    def fits(batch: int) -> bool:
        return (sizes.peak(batch) or 0) + beside <= most

    if not fits(1):
        return 0
    low, high = 1, 2
    while high < 2**20 and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _disk(sizes: Sizes, length: Length, free: int | None) -> DiskPlan:
    total = length.checkpoints_kept * sizes.saved_bytes + sizes.model_bytes
    return DiskPlan(sizes.saved_bytes, length.checkpoints_kept, sizes.model_bytes, total, free)


def _time(
    sizes: Sizes, length: Length, measured: Measured | None, flops_a_second: float | None
) -> TimePlan:
    batches = sizes.accumulation
    if measured is not None:
        step = batches * measured.batch_seconds + measured.update_seconds
        evaluation = length.validation_tokens * measured.forward_seconds
        training = length.steps * step + length.evaluations * evaluation
        total = measured.start_seconds + training + 2 * evaluation
        return TimePlan(True, step, measured.cpu_seconds, training, total)
    if not flops_a_second or sizes.flops_a_block is None:
        return TimePlan(False, None, None, None, None)
    blocks = batches * sizes.batch_size
    step = blocks * sizes.flops_a_block / flops_a_second + _UPDATE_SECONDS * sizes.trained
    tokens = length.evaluations * length.validation_tokens / sizes.block_size
    training = length.steps * step + tokens * sizes.flops_a_block / 3 / flops_a_second
    return TimePlan(False, step, None, training, training)


def _problems(memory: MemoryPlan, disk: DiskPlan, sizes: Sizes, run_dir: Path) -> Iterator[str]:
    peak, free = memory.peak_bytes, memory.free_bytes
    if peak is not None and free is not None and peak > free:
        where = "of memory" if sizes.device == "cpu" else "of GPU memory"
        yield f"needs {bytes_text(peak)} {where}, and {bytes_text(free)} are free"
    if disk.free_bytes is not None and disk.total_bytes > disk.free_bytes:
        yield (
            f"needs {bytes_text(disk.total_bytes)} of disk for {run_dir}, and "
            f"{bytes_text(disk.free_bytes)} are free"
        )


def _advice(sizes: Sizes, memory: MemoryPlan, disk: DiskPlan) -> Iterator[str]:
    """What to change where it doesn't fit, the gentlest first."""
    peak, free = memory.peak_bytes, memory.free_bytes
    if disk.free_bytes is not None and disk.total_bytes > disk.free_bytes:
        yield (
            "Lower training.save_total_limit, or set training.save_strategy: no, or "
            "training.output_dir to a larger disk."
        )
    if peak is None or free is None or peak <= free:
        return
    most, beside = memory.largest_batch or 0, peak - (sizes.peak() or peak)
    if divisor := _divisor(sizes.batch_size, at_most=most):
        accumulation = sizes.accumulation * sizes.batch_size // divisor
        yield (
            f"training.per_device_train_batch_size: {divisor} and "
            f"training.gradient_accumulation_steps: {accumulation} train the same."
        )
    if sizes.checkpointed is not None:
        less = replace(sizes, batch=sizes.checkpointed)
        needed = (less.peak() or 0) + beside
        if needed < peak:
            yield f"training.activation_checkpointing: true needs about {bytes_text(needed)}."
    if most == 0:
        if sizes.trained == sizes.parameters:
            least = sizes.libraries + sizes.weights
            fits = "may fit" if least < free else f"takes {bytes_text(least)} before it begins"
            yield f"An adapter (lora) has next to no gradients and moments: it {fits}."
        yield "Shorter blocks (data.block_size), or a smaller model, take less."


def _divisor(batch: int, *, at_most: int) -> int | None:
    """The largest part of a batch that fits, and that steps can be made of."""
    return next((n for n in range(min(batch - 1, at_most), 0, -1) if batch % n == 0), None)
