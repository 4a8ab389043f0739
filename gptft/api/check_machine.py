"""The section `training` of a config -> what this machine can't compute, or leaves out."""

from collections.abc import Iterator, Mapping
from typing import Any

from gptft.config.training_needs import FSDP_ON_CPU, SLOW_BFLOAT16
from gptft.models import machine
from gptft.terminal.words import short_value

# Settings that transformers drops on the CPU (5.23), and what that means.
_FOR_ACCELERATORS = {
    "fp16": ": training computes in float32",
    "torch_empty_cache_steps": "",
    "dataloader_pin_memory": "",
}


def machine_problems(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the machine can't compute; fields of `training` and messages that follow their names."""
    if not any(map(training.get, ("bf16", "fsdp", "tf32"))):
        return
    device = None if training.get("use_cpu") else machine.accelerator()
    if training.get("fsdp") and device != "cuda":
        yield "fsdp", FSDP_ON_CPU
    capability = machine.cuda_capability() if device == "cuda" else None
    has_ampere = capability is not None and capability >= (8, 0)
    if training.get("bf16"):
        if device is None and not machine.cpu_has_bfloat16():
            yield "bf16", SLOW_BFLOAT16
        elif device == "cuda" and not has_ampere:
            yield "bf16", "needs a GPU of compute capability 8.0. Set training.fp16: true instead."
    if training.get("tf32") and not has_ampere:
        yield "tf32", "needs a GPU of compute capability 8.0, and there is none. Leave it out."


def machine_notices(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that are for an accelerator, where there is none."""
    asked = [name for name in _FOR_ACCELERATORS if training.get(name)]
    if asked and (training.get("use_cpu") or machine.accelerator() is None):
        for name in asked:
            given = f"training.{name}: {short_value(training[name])}"
            yield name, f"{given} has no effect on the CPU{_FOR_ACCELERATORS[name]}."
