"""What a run will take, by arithmetic on sizes that can be added up by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptft.runs.plan import RunPlan, largest_batch, plan_run
from gptft.runs.plan_sizes import BatchSizes, Length, Measured, Sizes
from gptft.runs.plan_view import verdict

MB = 10**6
BATCH = BatchSizes(
    kept=2 * MB, kept_a_block=10 * MB, logits_a_row=1000, logits_rows=None, beside_a_token=24
)
SIZES = Sizes(
    device="cpu", parameters=MB, trained=MB, libraries=300 * MB, loading=4 * MB, weights=4 * MB,
    gradients=4 * MB, optimizer=8 * MB, average=0, batch=BATCH,
    checkpointed=replace(BATCH, kept_a_block=2 * MB), batch_size=4, accumulation=1, processes=1,
    block_size=250, flops_a_block=10**9, model_bytes=4 * MB, saved_bytes=12 * MB,
)  # fmt: skip
LENGTH = Length(
    blocks=10, tokens_an_epoch=2500, tokens=5000, steps=5, epochs=2.0, evaluations=2,
    validation_tokens=100, checkpoints=5, checkpoints_kept=3,
)  # fmt: skip
# 300 + 4 + 4 + 8, then 2 + 4 x 10, then 1,000 tokens x 1,024 bytes.
PEAK = 316 * MB + 42 * MB + 1_024_000


def planned(sizes: Sizes = SIZES, *, free: int | None = 1000 * MB, **more: Any) -> RunPlan:
    given = {"free_disk": 10**9, "measured": None, "flops_a_second": 10**10}
    return plan_run(sizes, LENGTH, run_dir=Path("runs/a"), free=free, **{**given, **more})


def test_memory_is_the_sum_of_its_parts() -> None:
    memory = planned().memory
    assert memory.activations_bytes == 42 * MB
    assert memory.logits_bytes == 1_024_000
    assert memory.peak_bytes == PEAK == SIZES.peak()
    assert not memory.is_measured


@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"average": 4 * MB}, 4 * MB),
        ({"gradients": 0, "optimizer": 0}, -12 * MB),
        ({"batch_size": 5}, 10 * MB + 256_000),
        ({"batch": replace(BATCH, logits_rows=100)}, -900_000),
        ({"loading": 200 * MB}, 200 * MB - (12 + 42) * MB - 1_024_000),  # and no step beside it
    ],
)
def test_each_part_counts(changed: dict[str, Any], more: int) -> None:
    assert replace(SIZES, **changed).peak() == PEAK + more


@pytest.mark.parametrize("free", [330 * MB, 400 * MB, 1000 * MB, 5000 * MB])
def test_the_largest_batch_fits_and_one_block_more_does_not(free: int) -> None:
    most = largest_batch(SIZES, free)
    assert most is not None
    assert (SIZES.peak(most + 1) or 0) > 0.95 * free
    assert most == 0 or (SIZES.peak(most) or 0) <= 0.95 * free


def test_a_measured_peak_counts_and_moves_the_largest_batch() -> None:
    measured = Measured(
        PEAK + 200 * MB, batch_seconds=2.0, update_seconds=0.5, forward_seconds=0.01,
        start_seconds=7.0, cpu_seconds=2.5,
    )  # fmt: skip
    plan = planned(replace(SIZES, accumulation=3), measured=measured, free=800 * MB)
    assert plan.memory.is_measured
    assert plan.memory.peak_bytes == PEAK + 200 * MB
    assert plan.memory.largest_batch == (largest_batch(SIZES, 800 * MB, beside=200 * MB))
    assert plan.memory.largest_batch < (largest_batch(SIZES, 800 * MB) or 0)
    assert plan.time.step_seconds == 3 * 2.0 + 0.5
    assert plan.time.training_seconds == 5 * 6.5 + 2 * 100 * 0.01
    assert plan.time.total_seconds == 7 + 5 * 6.5 + 2 * 1.0 + 2 * 1.0


def test_time_is_told_by_operations_where_nothing_was_measured() -> None:
    time = planned().time
    assert not time.is_measured
    assert time.step_seconds == pytest.approx(4 * 1e9 / 1e10 + 1.8e-9 * MB)


def test_disk_is_what_is_there_at_once() -> None:
    assert planned().disk.total_bytes == 3 * 12 * MB + 4 * MB


def test_what_fits_is_said() -> None:
    plan = planned()
    assert plan.fits is True
    assert plan.advice == ()
    assert verdict(plan) == "It fits: it needs 359.0 MB of 1.0 GB that are free."


@pytest.mark.parametrize(
    ("sizes", "free", "advice"),
    [
        (SIZES, 350 * MB, "training.per_device_train_batch_size: 1 and "
         "training.gradient_accumulation_steps: 4 train the same."),
        (SIZES, 352 * MB, "training.per_device_train_batch_size: 1 and "
         "training.gradient_accumulation_steps: 4 train the same."),
        (SIZES, 358 * MB, "training.per_device_train_batch_size: 2 and "
         "training.gradient_accumulation_steps: 2 train the same."),
        (SIZES, 358 * MB, "training.activation_checkpointing: true needs about 327.0 MB."),
        (SIZES, 310 * MB, "An adapter (lora) has next to no gradients and moments: it may fit."),
        (SIZES, 310 * MB, "Shorter blocks (data.block_size), or a smaller model, take less."),
    ],
)  # fmt: skip
def test_what_to_change_is_said_where_it_does_not_fit(sizes: Sizes, free: int, advice: str) -> None:
    plan = planned(sizes, free=free)
    assert plan.fits is False
    assert advice in plan.advice
    assert verdict(plan).startswith("It does not fit: it needs 359.0 MB of memory, and ")
    assert not [said for said in (*plan.advice, *plan.problems) if "\n" in said]


def test_a_batch_that_fits_by_itself_needs_no_other_model() -> None:
    assert not [said for said in planned(free=358 * MB).advice if "smaller model" in said]


def test_a_full_disk_is_said() -> None:
    plan = planned(free_disk=30 * MB)
    assert plan.fits is False
    assert "of disk for runs/a, and 30.0 MB are free" in verdict(plan)
    assert "save_total_limit" in plan.advice[0]


def test_what_is_not_known_is_not_said_to_fit() -> None:
    plan = planned(replace(SIZES, batch=None, checkpointed=None))
    assert plan.fits is None
    assert plan.memory.peak_bytes is None
    assert verdict(plan) == "Whether it fits isn't known."
    assert planned(free=None).fits is None
