"""What torch says of the machine -> a device, and a dtype that the device computes well in.

A checkpoint's own dtype never decides alone: bfloat16 on a CPU without bfloat16 instructions is 30
to 200 times slower than float32.
"""

from typing import Literal

import torch

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(*, use_cpu: bool = False) -> torch.device:
    """The accelerator torch sees, or the CPU."""
    if not use_cpu and torch.accelerator.is_available():
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None:
            return accelerator
    return torch.device("cpu")


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16, so that it isn't emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
        # Not public (torch 2.13), so any may be missing; `bool` stands in for it and gives False.
        return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)
    return False


def inference_dtype(asked: DtypeName, *, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype to hold weights in for generation.

    Args:
        asked: `model.dtype` of the config; anything but auto is taken as it is.
        stored: the dtype of the checkpoint.
        device: where the model will run.
    """
    if asked != "auto":
        return named_dtype(asked)
    if stored == torch.bfloat16 and has_native_bfloat16(device):
        return stored
    if stored == torch.float16 and device.type != "cpu":
        return stored
    return torch.float32


def training_dtype(asked: DtypeName) -> torch.dtype:
    """The dtype to hold weights in for training: float32 unless asked otherwise.

    Updates of a typical learning rate vanish in the rounding of 16-bit weights (Micikevicius et al.
    2018, 1710.03740, section 3.1); speed on an accelerator comes from autocast instead.
    """
    return torch.float32 if asked == "auto" else named_dtype(asked)


def named_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`.

    >>> named_dtype("float16")
    torch.float16
    """
    dtype: torch.dtype = getattr(torch, name)
    return dtype
