"""Tiny bases saved by stock transformers, and adapters of them made by stock peft."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64},
    "llama": {
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    },
    "qwen3": {
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64, "head_dim": 16,
        "tie_word_embeddings": True,
    },
    "gpt_neox": {
        "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32,
        "intermediate_size": 48, "max_position_embeddings": 64,
    },
}  # fmt: skip


def make_base(kind: str, folder: Path, *, tokenizer_of: Path) -> Path:
    """Save a seeded base of a kind, with the tokenizer of a folder."""
    from transformers import AutoConfig

    shutil.copytree(tokenizer_of, folder, ignore=shutil.ignore_patterns("*.safetensors", "c*.json"))
    ids = json.loads((tokenizer_of / "config.json").read_text(encoding="utf-8"))
    special = {name: ids[name] for name in ("vocab_size", "eos_token_id", "bos_token_id")}
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **{**SIZES[kind], **special})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # as large as a trained one's, so that an adapter has something to change
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(folder)
    return folder


def stock_base(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The base as transformers opens it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model


def make_adapter(
    base: Path, folder: Path, *, rows: int | None = None, seed: int = 3, **settings: Any
) -> Path:
    """Save an adapter of a base whose matrices are all random, so that it changes something.

    Args:
        base: the base's folder.
        folder: where to.
        rows: embeddings that the base is given first.
        seed: of its matrices.
        settings: of peft's config; `peft_type` is LORA where it isn't said.
    """
    from peft import get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = settings.pop("peft_type", "LORA")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = stock_base(base)
        if rows is not None:
            model.resize_token_embeddings(rows)
        settings = {"task_type": "CAUSAL_LM", **settings}
        config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**settings)
        torch.manual_seed(2)
        wrapped = get_peft_model(model, config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in wrapped.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight) * 0.1)
        wrapped.save_pretrained(folder)
    return folder


def stock_logits(
    base: Path,
    folder: Path,
    ids: torch.Tensor,
    *,
    rows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The logits of stock peft's model on the stock base, (B, T, V)."""
    from peft import PeftModel

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = stock_base(base, dtype)
        if rows is not None:
            model.resize_token_embeddings(rows)
        return PeftModel.from_pretrained(model, folder).eval()(ids).logits
