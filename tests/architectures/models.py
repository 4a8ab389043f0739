"""The name of an architecture -> a tiny model of it, and how transformers stores its tensors."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES

NOT_TRIED = {
    "dots3_note": "its config refuses fewer layers than the original's; dots3_note_text is tried",
    "gemma3n": "its image tower needs the packages timm and pillow",
    "gemma4_assistant": "drafts for another model, by its hidden states",
    "gemma4_unified_assistant": "drafts for another model, by its hidden states",
    "musicgen": "AutoModelForCausalLM can't make it of its own config",
    "musicgen_melody": "AutoModelForCausalLM can't make it of its own config",
}
"""Causal architectures that no tiny text model is made of, each with the reason."""

TEXT_PART = ("emu3", "mllama")
"""What `save_pretrained` writes of these is of a type that AutoModelForCausalLM doesn't know."""

UNLIKE = {"reformer": "its layers draw seeds from the system: no two runs of it are alike"}
"""Architectures whose resumed runs can't be compared with others, each with the reason."""

_CONTEXT = 64
_WIDTHS = {
    32: "hidden_size n_embd d_model embed_dim dim emb_dim embedding_size word_embed_proj_dim "
    "lru_width out_hidden_size hidden_size_global",
    48: "intermediate_size ffn_dim d_ff n_inner ffn_hidden_size decoder_ffn_dim encoder_ffn_dim "
    "feed_forward_size",
    16: "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size q_lora_rank "
    "kv_lora_rank qk_head_dim mamba_d_head mamba_head_dim chunk_size mamba_chunk_size "
    "attention_window_size sliding_window index_head_dim num_position_embeddings",
    8: "head_dim attention_head_size qk_rope_head_dim qk_nope_head_dim v_head_dim rotary_dim "
    "state_size mamba_d_state ssm_state_size linear_key_head_dim linear_value_head_dim "
    "linear_head_dim hidden_size_per_layer_input laurel_rank index_topk",
    _CONTEXT: "n_positions max_position_embeddings n_ctx seq_length max_seq_len",
}
_COUNTS = {
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
    "encoder_attention_heads linear_num_value_heads linear_num_heads mamba_n_heads mamba_num_heads "
    "mamba_dt_rank num_experts n_routed_experts num_local_experts moe_num_experts",
    3: "num_channels in_channels",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers "
    "num_decoder_layers depth num_key_value_heads num_experts_per_tok moe_k moe_topk expand "
    "mamba_expand linear_num_key_heads altup_num_inputs index_n_heads",
    1: "n_shared_experts num_shared_experts n_group topk_group first_k_dense_replace n_groups "
    "mamba_n_groups spatial_merge_size",
}
SIZES: dict[str, Any] = {
    **{
        name: size
        for of in (_WIDTHS, _COUNTS)
        for size, names in of.items()
        for name in names.split()
    },
    "image_size": 28,
    "patch_size": 14,
    "deepstack_visual_indexes": [0],
}
"""What any architecture gets of it that has a field of the name."""

_LINEAR_THEN_FULL = {"layer_types": ["linear_attention", "full_attention"]}
_CONV_THEN_FULL = {"layer_types": ["conv", "full_attention"]}
_HYBRID = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2}
_ALL_HEADS = {"num_key_value_heads": 4}
_QWEN4 = {
    **_LINEAR_THEN_FULL,
    "hc_count": 2,
    "hc_lowrank": 8,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    "ple_layer_ids": [1],
    "ngram_vocab_size_base": 50,
    "split_ngram_parts": 2,
}
OWN_SIZES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text",
         "glm4_moe_lite", "glm_moe_dsa", "longcat_flash", "minicpm3", "youtu"),
        _ALL_HEADS,
    ),
    **dict.fromkeys(
        ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), _LINEAR_THEN_FULL,
    ),
    "bailing_hybrid": _ALL_HEADS | _LINEAR_THEN_FULL,
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 50, "patch_size": 4},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8},
        "ffn_config": {"moe_top_k": 2},
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_hidden_layers": 4, "num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1,
    },
    "kimi_linear": _ALL_HEADS | _LINEAR_THEN_FULL,
    "lfm2_moe": _CONV_THEN_FULL,
    "lfm3": _CONV_THEN_FULL,
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "qwen3_5": {"text_config": _LINEAR_THEN_FULL},
    "qwen3_5_moe": {"text_config": _LINEAR_THEN_FULL},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"],
        "local_attn_chunk_length": 16, "lsh_attn_chunk_length": 16,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 10, "pronunciation_embed_dim": 8,
        "shape_vocab_size": 10, "shape_embed_dim": 8,
    },
    "xlstm": {"hidden_size": 64, "num_heads": 2, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_HYBRID, "attention_head_dim": 16},
    "zamba2": _HYBRID,
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""Sizes beside or instead of `SIZES`."""


def tiny_model(
    model_type: str, *, vocab_size: int = 320, eos_token_id: int = 0, **fields: Any
) -> PreTrainedModel:
    """A random model of 2 layers or so, in float32, in training mode as it is made.

    Args:
        model_type: its architecture.
        vocab_size: of its tokenizer.
        eos_token_id: EOS, BOS and PAD.
        fields: of its config, beside or instead of those that make it tiny.

    Raises:
        Exception: of whatever type the architecture refuses its sizes with.
    """
    known = {
        **SIZES,
        "vocab_size": vocab_size,
        "vocab_size_per_layer_input": vocab_size,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), eos_token_id),
    }
    sizes = _sizes(AutoConfig.for_model(model_type), known)
    sizes = _merged(sizes, {**OWN_SIZES.get(model_type, {}), **fields})
    config = AutoConfig.for_model(model_type, **sizes)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if (num_parameters := sum(p.numel() for p in model.parameters())) > 10_000_000:
        raise ValueError(f"{num_parameters:,} parameters are not tiny")
    embeddings = model.get_input_embeddings()
    if getattr(embeddings, "padding_idx", None) is not None:  # it is EOS too, and starts at zero,
        torch.nn.init.normal_(
            embeddings.weight[eos_token_id], std=0.02
        )  # where a norm has no slope
    return model


def save_tiny_model(model_type: str, folder: Path) -> None:
    """Save a tiny model and a byte-level tokenizer, as stock transformers does."""
    tokenizer = _tokenizer()
    model = tiny_model(
        model_type, vocab_size=tokenizer.vocab_size, eos_token_id=tokenizer.require_eos()
    )
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, model_max_length=_CONTEXT)


@cache
def _tokenizer() -> Any:
    return train_bpe(iter(SENTENCES * 4), vocab_size=320, min_frequency=2)


def _sizes(config: PreTrainedConfig, known: dict[str, Any]) -> dict[str, Any]:
    """Those of the known sizes that a config has a field for, and each config in it likewise."""
    fields = {*config.to_dict(), *config.attribute_map}
    sizes = {name: size for name, size in known.items() if name in fields}
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            sizes[name] = {"model_type": part.model_type} if part.model_type else {}
            sizes[name] |= _sizes(part, known)
    return sizes


def _merged(sizes: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    inner = {
        name: sizes[name] | own[name]
        for name in own.keys() & sizes
        if isinstance(sizes[name], dict)
    }
    return {**sizes, **own, **inner}


def conversions() -> dict[str, str]:
    """The causal architectures whose tensors have other names or shapes in a file than in memory.

    Returns:
        each with the first, in transformers' order, that is converted the same way.
    """
    first: dict[str, str] = {}
    found = {}
    for model_type, class_name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for key in (class_name, model_type):  # a conversion of its class comes before its type's
            if (steps := get_checkpoint_conversion_mapping(key)) is not None:
                what = repr([_step(step) for step in steps])
                found[model_type] = first.setdefault(what, model_type)
                break
    return found


def one_of_each_conversion() -> list[str]:
    """Of each kind of conversion one architecture that can be trained."""
    kinds: dict[str, str] = {}
    for model_type, kind in conversions().items():
        if model_type not in (*NOT_TRIED, *TEXT_PART):
            kinds.setdefault(kind, model_type)
    return list(kinds.values())


def _step(step: Any) -> tuple[Any, ...]:
    operations = [type(one).__name__ for one in getattr(step, "operations", ())]
    return type(step).__name__, operations, step.source_patterns, step.target_patterns
