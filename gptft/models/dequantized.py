"""The weights of a .gguf file -> the same values as safetensors, in the cache.

transformers reads and places them, under a config of ours: its own leaves `context_length` out for
GPT-2, whose rows of positions then don't fit (5.23).
"""

import io
import math
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from gptft.console import stage
from gptft.errors import ModelError
from gptft.models.gguf_files import ROPE_FACTORS, main_type
from gptft.models.gguf_header import StoredTensor, read_gguf
from gptft.models.hub_head import require_all
from gptft.models.kept import kept_weights
from gptft.models.pickled import apart
from gptft.terminal.commands import with_our_extras
from gptft.terminal.text import shown_path
from gptft.terminal.words import bytes_text, count

_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
# The only types of values that aren't blocks of quantized ones.
_PLAIN = {"F32", *_DTYPES}


def dequantized(path: Path, folder: Path, *, name: str) -> Path:
    """A folder with the weights of a .gguf file as safetensors.

    Args:
        path: the file.
        folder: with the config.json that its header stands for.
        name: what a person calls the model.

    Returns:
        a folder in the cache; made at first use, found at every other one without reading the file.

    Raises:
        ModelError: the weights can't be read, placed or written.
    """
    require_all(path, name=name)
    pairs, tensors = read_gguf(path)
    kind = main_type(tensors)
    width = 4 if kind not in _DTYPES else 2
    size = sum(math.prod(tensor.shape) for tensor in tensors.values()) * width

    def write(made: Path) -> str:
        with stage(f"Converting {shown_path(path)} to safetensors"):
            _write(path, folder, made, tensors=tensors, kind=str(pairs["general.architecture"]))
        done = "converted" if kind in _PLAIN else "dequantized"
        held = f"{path.name} ({kind}, {bytes_text(path.stat().st_size)})"
        dtype = str(_DTYPES.get(kind, torch.float32)).removeprefix("torch.")
        return f"{name}: {held} was {done} to safetensors ({dtype}, {bytes_text(size)})"

    return kept_weights([path], name=name, write=write, size=size)


def _write(
    path: Path, folder: Path, made: Path, *, tensors: dict[str, StoredTensor], kind: str
) -> None:
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        with torch.device("meta"):
            empty: Any = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # each architecture checks its sizes in its own way
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"{path}: no {kind} can be made of its header: {reason}.") from None
    processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(  # type: ignore[no-untyped-call]
        config=config.to_dict()
    )
    places = get_gguf_hf_weights_map(empty, processor)
    if unplaced := sorted(tensors.keys() - places.keys() - {ROPE_FACTORS}):
        raise ModelError(
            f"{path}: {count(len(unplaced), 'tensor')} that a {config.model_type} of transformers "
            f"has no place for, {unplaced[0]} for one. Take the folder with safetensors that it "
            "was made of."
        )
    sides = {name: tensor.numel() for name, tensor in empty.state_dict().items()}
    for stored, tensor in tensors.items():
        has, place = math.prod(tensor.shape), places.get(stored)
        if place is not None and has != sides[place]:
            raise ModelError(
                f"{path} is damaged: its tensor {stored} has {has:,} values, and by its header it "
                f"would have {sides[place]:,}."
            )
    try:
        with redirect_stderr(io.StringIO()):  # a bar that can't be turned off (5.23)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(path.parent), gguf_file=path.name, config=config, dtype=torch.float32,
                local_files_only=True, output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # transformers and gguf raise a dozen types
        lines = with_our_extras(str(error)).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise ModelError(
            f"{path}: its weights can't be read: {reason[:300]}. Copy it again from where the "
            "model comes from."
        ) from None
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(missing)} of the weights its header asks for, {missing[0]} among "
            "them. Copy it again from where the model comes from."
        )
    weights = model.state_dict()
    for tied in model.all_tied_weights_keys:
        weights.pop(tied, None)
    narrow = _DTYPES.get(main_type(tensors))
    kept = {key: _narrowed(tensor, narrow) for key, tensor in weights.items()}
    save_file(apart(kept), made / "model.safetensors", metadata={"format": "pt"})


def _narrowed(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in a dtype that it was stored in, where that has all of its values exactly."""
    if dtype is None or not tensor.is_floating_point():
        return tensor
    short = tensor.to(dtype)
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor
