"""`training.bf16: auto` -> what a run computes in: settled before and after its arguments are made.

On a CPU it is bfloat16 where that is faster; on a GPU bfloat16 from compute capability 8.0 on, and
float16 with a scaled loss below it, which no GPU at hand could try yet; elsewhere float32.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainingArguments

from gptft.models.bfloat16 import bfloat16_on
from gptft.models.precision import DtypeName, has_native_bfloat16


def is_open(training: Mapping[str, Any], dtype: DtypeName) -> bool:
    """Whether the machine is to decide: nothing is said of mixed precision or of the weights.

    Args:
        training: the section, without `bf16: auto`.
        dtype: `model.dtype` of the config.
    """
    return dtype == "auto" and training.get("bf16") is None and not training.get("fp16")


def mixed_precision(training: Mapping[str, Any], device: torch.device) -> dict[str, bool]:
    """The fields of `TrainingArguments` for an open section; none where processes are to agree."""
    if device.type == "cuda":
        has_bfloat16 = has_native_bfloat16(device)
        is_unscaled = bool(training.get("unlikelihood_weight"))  # no loss for float16's scaler
        return {"bf16": has_bfloat16, "fp16": not (has_bfloat16 or is_unscaled)}
    if device.type == "cpu" and "LOCAL_RANK" not in os.environ:
        return {"bf16": bfloat16_on(device).pays}
    return {}


def agree(args: TrainingArguments) -> None:
    """Let the processes of a launcher compute, on CPUs, in what the first one is faster in."""
    if args.device.type != "cpu" or "LOCAL_RANK" not in os.environ:
        return
    said = torch.tensor(args.process_index == 0 and bfloat16_on(args.device).pays)
    if args.world_size > 1:
        said = said.to(torch.int32)
        torch.distributed.broadcast(said, src=0)
    args.bf16 = bool(said)
    args.mixed_precision = "bf16" if args.bf16 else "no"


def mixed_precision_notes(args: TrainingArguments, training: Mapping[str, Any]) -> list[str]:
    """A sentence on bfloat16 that nobody asked for, and what it gains on this CPU."""
    if not args.bf16 or training.get("bf16") is True or args.device.type != "cpu":
        return []
    gain = bfloat16_on(args.device).gain
    found = "" if gain is None else f", {gain:.1f} times as fast on this CPU as float32"
    return [f"Computing in bfloat16{found} (training.bf16: auto)."]
