"""A model and a tokenizer -> a .gguf file, as llama.cpp's converter writes it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel

NORMAL, CONTROL = 1, 3


def write_gguf(
    model: PreTrainedModel,
    path: Path,
    *,
    tokenizer: Mapping[str, Any],
    type_of: Callable[[str], str] = lambda name: "F32",
    more: Callable[[Any], None] = lambda writer: None,
    packed: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write `model` to `path`.

    Args:
        model: a GPT-2, a Llama or a Qwen.
        path: where to.
        tokenizer: the parsed tokenizer.json, of a byte-level BPE.
        type_of: the type to store a matrix in, by its name in the file.
        more: further keys.
        packed: blocks of Q4_K for some matrices, by name in the file.
    """
    config, kind = model.config, str(model.config.model_type)
    writer = gguf.GGUFWriter(str(path), kind)
    if kind == "gpt2":
        writer.add_context_length(config.n_positions)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    else:
        writer.add_context_length(config.max_position_embeddings)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        head_dim = getattr(config, "head_dim", None)
        if kind == "qwen3":
            writer.add_key_length(head_dim)
        if kind == "llama":
            writer.add_rope_dimension_count(head_dim)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL, *[NORMAL] * (len(tokens) - 1)])
    pairs = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_token_merges(pairs)
    writer.add_eos_token_id(0)
    more(writer)
    names = gguf.get_tensor_name_map(_architecture(kind), config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor
        if kind == "llama" and ("q_proj" in name or "k_proj" in name):
            is_key = "k_proj" in name
            heads = config.num_key_value_heads if is_key else config.num_attention_heads
            values = permuted(values, heads)
        if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            values = values.T
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        _add(writer, place, values.contiguous(), type_of(place), (packed or {}).get(place))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permuted(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries or keys in the order that llama.cpp turns them in."""
    halves = tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _add(
    writer: Any, name: str, tensor: torch.Tensor, kind: str, packed: np.ndarray | None
) -> None:
    if packed is not None:
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_K)
        return
    chosen = gguf.GGMLQuantizationType[kind if tensor.dim() > 1 else "F32"]
    values = gguf.quants.quantize(tensor.float().numpy(), chosen)
    writer.add_tensor(name, values, raw_dtype=chosen)


def _architecture(kind: str) -> Any:
    return next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
