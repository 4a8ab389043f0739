"""How a base's weights are to be quantized -> what loads it so, by bitsandbytes.

Source: Dettmers et al. 2023, "QLoRA" (2305.14314), section 3, for nf4; Dettmers et al. 2022,
"LLM.int8()" (2208.07339), for int8.
"""

import logging
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from gptft.config.lora import Quantize
from gptft.errors import ModelError
from gptft.models.precision import has_native_bfloat16
from gptft.terminal.commands import install_command

WITHOUT = f"it takes the package bitsandbytes. Install it: {install_command('bitsandbytes')}"


def quantized_loading(quantize: Quantize, *, device: torch.device, name: str) -> dict[str, Any]:
    """What `from_pretrained` is told besides, so that it quantizes each linear layer but the head.

    Args:
        quantize: nf4 or int8.
        device: where the model is to be; it can't be moved afterwards.
        name: what a message calls the model.

    Raises:
        ModelError: bitsandbytes isn't installed.
    """
    if find_spec("bitsandbytes") is None:
        raise ModelError(f"{name} can't be loaded as lora.quantize says: {WITHOUT}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it speaks at each layer (0.50)
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cuda" and not has_native_bfloat16(device):
        compute = torch.float16
    how = (
        BitsAndBytesConfig(load_in_8bit=True)
        if quantize == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )
    )
    return {"quantization_config": how, "device_map": {"": str(device)}}


def keep_as_loaded(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew when a model is first evaluated.

    On a CPU with bfloat16 instructions it would round their scales to bfloat16, for good, so that a
    run that evaluates before it trains were another than one that is resumed; and it fails where a
    layer's width is no multiple of 64 (0.50, `Linear4bit.forward`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def is_quantized(model: torch.nn.Module) -> bool:
    """Whether a model's linear layers are quantized."""
    return bool(getattr(model, "is_quantized", False))


def num_weights(model: torch.nn.Module) -> int:
    """How many numbers a model has, of which two share a byte in 4 bits."""
    return sum(map(_size, model.parameters()))


def _size(weight: torch.Tensor) -> int:
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(torch.Size(state.shape).numel())
