"""A run that begins -> what it will take, for its first lines and for run.json."""

from contextlib import suppress
from typing import Any

import torch
from transformers import TrainingArguments

from gptft.config.sections import Config
from gptft.models.free_memory import free_memory, peak_memory, resident_memory
from gptft.runs.plan import RunPlan, plan_run
from gptft.training.planning.predict import predict_run
from gptft.training.planning.timing import flops_a_second
from gptft.training.setup import Setup


def foresee(config: Config, setup: Setup) -> RunPlan | None:
    """What a run will take; None where that can't be found out, which ends no run.

    Args:
        config: of the run.
        setup: of the run, its model loaded.
    """
    args = setup.trainer.args
    if args.world_size > 1 or args.deepspeed or args.fsdp:
        return None  # whose parts are elsewhere
    with suppress(Exception):  # of a model that can't be run without contents
        weights = sum(one.nbytes for one in setup.model.parameters() if one.device.type == "cpu")
        libraries = max(0, (resident_memory() or 0) - weights)
        found = predict_run(config, args, store_dir=setup.store_dir, libraries=libraries)
        if found.sizes is not None:
            return plan_run(
                found.sizes, found.length, run_dir=setup.trainer.checkpoints_dir.parent,
                free=_free(args), free_disk=None, measured=None, flops_a_second=flops_a_second(),
            )  # fmt: skip
    return None


def _free(args: TrainingArguments) -> int | None:
    """Bytes that the whole run can have, what it has already among them."""
    if args.device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + torch.cuda.memory_allocated()
    free, ours = free_memory(), resident_memory()
    return None if free is None else free + (ours or 0)


def predicted_facts(plan: RunPlan | None) -> dict[str, Any]:
    """What run.json says of a plan."""
    if plan is None:
        return {}
    seconds, peak = plan.time.training_seconds, plan.memory.peak_bytes
    return {"plan": {"predicted": {"peak_bytes": peak, "seconds": seconds}}}


def with_real(facts: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """The same, with what the run has taken beside it."""
    if "plan" not in facts:
        return {}
    is_gpu = facts.get("device") == "cuda"
    peak = torch.cuda.max_memory_allocated() if is_gpu else peak_memory()
    return {"plan": {**facts["plan"], "real": {"peak_bytes": peak, "seconds": seconds}}}
