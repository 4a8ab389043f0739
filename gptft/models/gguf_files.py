"""A .gguf file -> a model's folder with the config.json that its header stands for.

Only what a config class can say exactly is taken over. A header that asks for anything else, such
as positions that are scaled, is refused: a model that computes something else would say nothing.

Source: the keys of llama.cpp's gguf-py, constants.py, and what its convert_hf_to_gguf.py writes.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptft.errors import ModelError
from gptft.files import default_cache_dir, read_json, write_json
from gptft.models.gguf_header import StoredTensor, read_gguf
from gptft.models.kept import are_kept, stamp_of
from gptft.models.model_files import ModelFiles
from gptft.terminal.commands import install_command

Pairs = Mapping[str, Any]
Tensors = Mapping[str, StoredTensor]

_LLAMA = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_GPT2 = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
# Architectures, each with fields of its config by the keys that a header must have.
_FIELDS = {"llama": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA, "gpt2": _GPT2}
_CLASSES = {
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}  # fmt: skip
_IDS = {"bos": "bos", "eos": "eos", "pad": "padding"}
_HALVES = {"F16": "float16", "BF16": "bfloat16"}
ROPE_FACTORS = "rope_freqs.weight"
_LLAMA3_FACTORS = (8.0, 32.0)  # of Llama 3.1, and of 3.2 with 1 and 3 billion weights


def gguf_files(path: Path, *, name: str, with_weights: bool = True) -> ModelFiles:
    """The files of a model that is a .gguf file; made in the cache where they aren't yet.

    Args:
        path: the file.
        name: what a person calls it.
        with_weights: they are going to be read, which takes a package.

    Raises:
        ModelError: the file is damaged, isn't of an architecture that gptft reads, or computes what
            a config.json can't say; or the package that reads its weights is missing.
    """
    try:
        folder = default_cache_dir() / "gguf" / stamp_of([path])
        pairs, tensors = read_gguf(path)
        try:
            config = _config(pairs, tensors, factors=_rope_factors(path, tensors))
        except _UnfitError as error:
            raise ModelError(f"{name} {error}.") from None
        stated = folder / "config.json"
        if not (stated.is_file() and _as_stored(stated) == config):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(stated, config)
        if with_weights and not are_kept([path]):
            require_reader(name)
    except OSError as error:
        raise ModelError(
            f"The config.json of {name} can't be kept in {default_cache_dir()}: {error.strerror}. "
            "Set GPTFT_CACHE to a folder that can hold it."
        ) from None
    return ModelFiles(name, folder, gguf=path)


def require_reader(name: str) -> None:
    """Refuse to take the weights of a .gguf file without the package that reads them.

    Raises:
        ModelError: as said.
    """
    if find_spec("gguf") is None:
        raise ModelError(
            f"{name}: reading the weights of a .gguf file takes the package gguf. Install it: "
            f"{install_command('gguf')}"
        )


def main_type(tensors: Tensors) -> str:
    """The type that most of a file's values have, in its matrices."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        if len(tensor.shape) > 1:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.size
    return max(sizes, key=lambda kind: sizes[kind], default="F32")


class _UnfitError(Exception):
    """Why a header stands for no config.json, in words that follow the file's name."""


def _as_stored(path: Path) -> Any:
    with suppress(ValueError):
        return read_json(path)
    return None


def _config(pairs: Pairs, tensors: Tensors, *, factors: Sequence[float]) -> dict[str, Any]:
    kind = pairs.get("general.architecture")
    if kind not in _FIELDS:
        raise _UnfitError(
            f"holds a model of the architecture {kind!r}; gptft reads {', '.join(_FIELDS)}. Take "
            "the folder with safetensors that it was made of"
        )
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise _UnfitError("holds no weights: token_embd.weight is not in it")
    for problem in _inexact(pairs, kind):
        raise _UnfitError(
            f"{problem}, which can't be taken over exactly. Take the folder with safetensors that "
            "it was made of"
        )
    config: dict[str, Any] = {"model_type": kind, "architectures": [_CLASSES[kind]]}
    for key, field in _FIELDS[kind].items():
        config[field] = _number(pairs, f"{kind}.{key}")
    layers = 1 + max((_layer(name) for name in tensors), default=-1)
    if (stated := _number(pairs, f"{kind}.block_count")) != layers:
        raise _UnfitError(f"is damaged: its header says {stated:,} layers, and it has {layers:,}")
    vocab_size, width = tensors["token_embd.weight"].shape
    if (stated := _number(pairs, f"{kind}.embedding_length")) != width:
        raise _UnfitError(
            f"is damaged: its header says a width of {stated:,}, and it has {width:,}"
        )
    config["vocab_size"] = vocab_size
    if kind != "gpt2":
        config |= _rotary(pairs, tensors, kind, factors=factors)
    for name, key in _IDS.items():
        token_id = pairs.get(f"tokenizer.ggml.{key}_token_id")
        is_one = isinstance(token_id, int) and 0 <= token_id < vocab_size
        config[f"{name}_token_id"] = token_id if is_one else None
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["dtype"] = _HALVES.get(main_type(tensors), "float32")
    return config


def _rotary(
    pairs: Pairs, tensors: Tensors, kind: str, *, factors: Sequence[float]
) -> dict[str, Any]:
    """The fields of Llama and those that followed it that GPT-2 doesn't have."""
    heads = _number(pairs, f"{kind}.attention.head_count")
    rows = tensors["blk.0.attn_q.weight"].shape[0] if "blk.0.attn_q.weight" in tensors else 0
    head_dim = _number(pairs, f"{kind}.attention.key_length", default=rows // heads)
    turned = _number(pairs, f"{kind}.rope.dimension_count", default=head_dim)
    if turned != head_dim:
        raise _UnfitError(
            f"turns {turned} of the {head_dim} numbers of a head by their positions, and a config "
            f"of {kind} turns all. Take the folder with safetensors that it was made of"
        )
    base = float(_number(pairs, f"{kind}.rope.freq_base", default=10_000.0))
    scaling = _llama3_scaling(factors, base=base) if factors else {"rope_type": "default"}
    if scaling is None:
        raise _UnfitError(
            f"scales positions by its own {ROPE_FACTORS}, which can't be taken over exactly. Take "
            "the folder with safetensors that it was made of"
        )
    fields: dict[str, Any] = {
        "num_key_value_heads": _number(pairs, f"{kind}.attention.head_count_kv", default=heads),
        "rope_parameters": {**scaling, "rope_theta": base},
    }
    if kind != "qwen2":  # whose class divides the width, and has biases always
        fields["head_dim"] = head_dim
        fields["attention_bias"] = "blk.0.attn_q.bias" in tensors
    if kind == "llama":
        fields["mlp_bias"] = "blk.0.ffn_gate.bias" in tensors
    return fields


def _rope_factors(path: Path, tensors: Tensors) -> tuple[float, ...]:
    """By what each pair of numbers of a head is turned more slowly; none where none is."""
    tensor = tensors.get(ROPE_FACTORS)
    if tensor is None or tensor.type != "F32":
        return () if tensor is None else (math.nan,)
    with path.open("rb") as file:
        file.seek(tensor.start)
        return struct.unpack(f"<{tensor.size // 4}f", file.read(tensor.size))


def _llama3_scaling(factors: Sequence[float], *, base: float) -> dict[str, Any] | None:
    """The scaling of Llama 3.1 or 3.2 that these factors are; None where they are another's.

    Source: llama.cpp's convert_hf_to_gguf.py, generate_extra_tensors of LlamaModel, which writes
    the factors and nothing of what they are computed from.
    """
    for factor in _LLAMA3_FACTORS:
        low, high, original = 1.0, 4.0, 8192
        expected = []
        for i in range(len(factors)):
            length = 2 * math.pi * base ** (i / len(factors))
            smooth = min(max((original / length - low) / (high - low), 0), 1)
            expected.append(1 / ((1 - smooth) / factor + smooth))
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(factors, expected, strict=True)):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original,
            }  # fmt: skip
    return None


def _inexact(pairs: Pairs, kind: str) -> Iterator[str]:
    """What of a header has no place in a config of its architecture."""
    scaling = pairs.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        yield f"scales positions ({scaling})"
    if pairs.get(f"{kind}.rope.scale_linear", 1.0) != 1.0:
        yield "scales positions (linear)"
    if pairs.get(f"{kind}.expert_count", 0):
        yield "is a mixture of experts"
    if pairs.get(f"{kind}.attention.sliding_window", 0):
        yield "attends to a sliding window"


def _number(pairs: Pairs, key: str, *, default: Any = None) -> Any:
    value = pairs.get(key, default)
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0 < value < math.inf):
        said = "is missing" if value is None else f"is {value!r}"
        raise _UnfitError(f"is damaged: {key} {said} in its header, and a number is needed")
    return _short(value)


def _short(value: Any) -> Any:
    """A number as it was before it was stored in 32 bits.

    >>> _short(9.999999747378752e-06), _short(64)
    (1e-05, 64)
    """
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _layer(name: str) -> int:
    """The layer that a tensor belongs to; -1 for none.

    >>> _layer("blk.11.attn_q.weight"), _layer("output.weight")
    (11, -1)
    """
    head, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if head == "blk" and number.isdecimal() else -1
