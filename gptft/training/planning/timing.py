"""A run's own model and batch -> the seconds of two steps, and the memory that they took."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from gptft.models.free_memory import peak_memory
from gptft.runs.plan_sizes import Measured
from gptft.training.dataset import BlockDataset, spread_indices
from gptft.training.setup import Setup

_STEPS = 3  # the first one is not timed: memory is new to the process, and kernels are chosen
_BLOCKS = 2  # that are measured, to time a forward pass
_PRODUCTS, _SHARE, _MIXED_SHARE = 10, 0.6, 0.35


@dataclass
class _Times(TrainerCallback):
    """When each step began, was ready for its update, and was over."""

    began: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    over: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called before the first batch of a step."""
        self.cpu.append(time.process_time())
        self.began.append(_now())

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called with all gradients there."""
        self.ready.append(_now())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called behind the update."""
        self.over.append(_now())
        self.cpu[-1] = time.process_time() - self.cpu[-1]


def _now() -> float:
    """Seconds, once the accelerator has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def time_steps(setup: Setup, *, started: float) -> Measured:
    """Make steps of a run, none of which is saved, and time all but the first.

    Args:
        setup: of the run; it is used up.
        started: when the process began, by `time.perf_counter`.
    """
    trainer, times = setup.trainer, _Times()
    args = trainer.args
    few = BlockDataset(setup.store, indices=spread_indices(len(setup.store), at_most=_BLOCKS))
    trainer.measure(few)  # once for nothing, as the first step
    before = _now()
    num_tokens = max(1, trainer.measure(few).num_tokens)
    forward = (_now() - before) / num_tokens
    accumulation = args.gradient_accumulation_steps
    few_batches = min(accumulation, 2)  # in the second the gradients of the first are there
    args.gradient_accumulation_steps = few_batches
    trainer.accelerator.gradient_accumulation_steps = few_batches
    args.max_steps, args.eval_strategy = _STEPS, IntervalStrategy.NO
    args.save_strategy, args.eval_on_start = SaveStrategy.NO, False
    args.load_best_model_at_end = False
    trainer.add_callback(times)
    start = _now() - started
    trainer.train()
    timed = slice(1, None) if len(times.over) > 1 else slice(None)
    with trainer.kept.held():  # as a run is measured at its end
        trainer.measure(few)
    batches = _mean(times.began[timed], times.ready[timed])
    updates = _mean(times.ready[timed], times.over[timed])
    cpu = times.cpu[timed]
    share = batches / max(batches + updates, 1e-9)
    cpu_of_step = sum(cpu) / len(cpu) * (share * accumulation / few_batches + 1 - share)
    peak = torch.cuda.max_memory_allocated() if args.device.type == "cuda" else peak_memory()
    return Measured(peak, batches / few_batches, updates, forward, start, cpu_of_step)


def _mean(begins: list[float], ends: list[float]) -> float:
    return sum(end - begin for begin, end in zip(begins, ends, strict=True)) / len(ends)


def flops_a_second(*, is_mixed: bool) -> float:
    """Operations of a training step that this machine makes in a second.

    That is a share of what it makes in the product of two matrices, the best of several: what is
    left of a step is memory's. The shares are of six runs of 10 to 60 M parameters on a CPU with
    AVX-512 and AMX (docs/experiments.md); elsewhere they may be others.

    Args:
        is_mixed: whether layers compute in bfloat16.
    """
    side, dtype = 1024, torch.bfloat16 if is_mixed else torch.float32
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    left = torch.ones(side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(_PRODUCTS):
        before = _now()
        left @ left
        seconds.append(_now() - before)
    share = _MIXED_SHARE if is_mixed else _SHARE
    return share * 2 * side**3 / max(min(seconds), 1e-9)
