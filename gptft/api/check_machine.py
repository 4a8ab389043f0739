"""The section `training` of a config -> what this machine can't compute or write, or leaves out."""

from collections.abc import Iterator, Mapping
from typing import Any

from gptft.config.sections import ModelConfig
from gptft.config.source import KeyPath
from gptft.config.training_fields import without_auto
from gptft.config.training_needs import FSDP_ON_CPU, SLOW_BFLOAT16
from gptft.inputs import can_be_made, expand_user, why_unusable
from gptft.models import machine
from gptft.runs.run_folder import is_foreign, run_around
from gptft.terminal.words import short_value

# Settings that transformers drops on the CPU (5.23), and what that means.
_FOR_ACCELERATORS = {
    "fp16": ": training computes in float32",
    "torch_empty_cache_steps": "",
    "dataloader_pin_memory": "",
}
_ATTENTION = "attn_implementation"


def machine_problems(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the machine can't compute; fields of `training` and messages that follow their names."""
    training = without_auto(training)
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


def place_problems(
    model: ModelConfig, training: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    """What can't be on this machine, by the paths of the settings: attention, the run folder."""
    if problem := output_dir_problem(training):
        yield ("training", "output_dir"), problem
    section, fields = "config_overrides", model.config_overrides
    if model.from_scratch is not None:
        section, fields = "from_scratch", model.from_scratch
    is_on_cpu = training.get("use_cpu") or machine.accelerator() is None
    if fields.get(_ATTENTION) == "flex_attention" and is_on_cpu:
        where = ("model", section, _ATTENTION)
        yield (
            where,
            f"{'.'.join(where)}: flex_attention has no gradient on a CPU (torch 2.13). Leave it "
            "out, or take sdpa.",
        )


def machine_notices(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that are for an accelerator, where there is none."""
    asked = [name for name in _FOR_ACCELERATORS if training.get(name)]
    if asked and (training.get("use_cpu") or machine.accelerator() is None):
        for name in asked:
            given = f"training.{name}: {short_value(training[name])}"
            yield name, f"{given} has no effect on the CPU{_FOR_ACCELERATORS[name]}."


def output_dir_problem(training: Mapping[str, Any]) -> str | None:
    """Why no run can be in the folder that training.output_dir names, whatever the flags."""
    if training.get("output_dir") is None:
        return None
    if not training["output_dir"]:
        return "training.output_dir is empty. Name a folder, or leave it out for one in runs/."
    try:
        folder = expand_user(training["output_dir"])
    except OSError as error:
        given = training["output_dir"]
        return f"training.output_dir: {given}: {error.strerror}. Name another folder."
    try:
        if unusable := why_unusable(folder):
            why = unusable
        elif is_foreign(folder):
            why = "isn't empty and isn't a run of gptft; nothing in it was touched"
        elif around := run_around(folder):
            why = f"is within the run {around}, and would be lost with it"
        else:
            why = "" if can_be_made(folder) else "can't be made"
    except OSError as error:  # a name too long, say
        why = f"can't be made: {error.strerror}"
    return f"training.output_dir: {folder} {why}. Name another folder." if why else None
