"""Parameters by part, against models that stock transformers builds and their modules' classes."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from gptft.inspection.model_facts import model_facts
from gptft.models.built import built_tensors
from gptft.models.headers import Tensor, read_headers, weight_files
from gptft.models.model_files import ModelFiles
from gptft.models.parameters import LORA_RANK, count_parameters
from tests.architectures.models import OWN_SIZES, SIZES, tiny_model
from tests.architectures.parts import parts_by_class

GQA = {"num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False}),
    "llama": ("llama", GQA),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "gemma3_text": ("gemma3_text", {}),
    **{
        name: (name, {})
        for name in (
            "gpt_neox", "opt", "bloom", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "phi",
            "phi3", "falcon", "mamba", "mamba2", "gptj", "gpt_neo", "gpt_bigcode", "openai-gpt",
            "gemma2", "olmo2", "stablelm", "xglm", "deepseek_v3", "jamba", "granitemoe", "rwkv",
            "smollm3", "starcoder2", "ctrl", "codegen", "mpt", "qwen3_next", "xlstm",
        )
    },
}  # fmt: skip


def tiny(name: str) -> PreTrainedModel:
    kind, changed = MODELS[name]
    own = {
        **SIZES,
        "vocab_size": 96,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
        **OWN_SIZES.get(kind, {}),
        **changed,
    }
    fields = AutoConfig.for_model(kind).to_dict()
    names = {**fields, **type(AutoConfig.for_model(kind)).attribute_map}
    config = AutoConfig.for_model(kind, **{k: v for k, v in own.items() if k in names})
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_those_of_the_modules(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    tensors, unreadable = read_headers(weight_files(ModelFiles("m", tmp_path)))
    counted = count_parameters(tensors, ties=bool(model.config.tie_word_embeddings))
    assert not unreadable
    assert counted.total == sum(one.numel() for one in model.parameters())
    assert counted.parts == parts_by_class(model)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert counted.tied == (table.weight is head.weight)
    blocks = (counted.total - sum(one.numel() for n, one in model.named_parameters()
                                  if not re.search(r"\.\d+\.", n)))  # fmt: skip
    if name not in ("jamba", "qwen3_next", "deepseek_v3", "rwkv"):  # whose layers differ
        assert sum(counted.block.values()) * 2 == blocks


# Buffers that are parameters elsewhere, or have another name in a file; weights that are tied, or
# are not though the config says so; layers with more than attention and a feed-forward.
ODD = (
    "afmoe", "apertus", "axk2", "bert", "bigbird_pegasus", "camembert", "deepseek_v4", "doge",
    "ernie4_5_moe", "gemma3n_text", "granitemoeshared", "inkling2_text", "inkling_text", "jetmoe",
    "laguna", "lfm2_moe", "longcat_flash", "minimax", "nemotron", "nemotron_h", "qwen4_exp_text",
    "recurrent_gemma", "rembert", "roberta-prelayernorm", "roformer", "xlm", "xlnet", "zamba",
    "zamba2", "zaya",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_models_have_the_parameters_of_their_modules(name: str, tmp_path: Path) -> None:
    model = tiny_model(name)
    model.save_pretrained(tmp_path)
    counted = model_facts(str(tmp_path)).parameters
    assert counted is not None
    assert counted.total == sum(one.numel() for one in model.parameters())
    assert counted.parts == parts_by_class(model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral", "bloom", "falcon", "mamba"])
def test_without_a_header_the_config_is_built(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.config.save_pretrained(tmp_path)
    counted = count_parameters(
        built_tensors(ModelFiles("m", tmp_path)), ties=bool(model.config.tie_word_embeddings)
    )
    assert counted.parts == parts_by_class(model)


# With experts stored one by one, which peft adapts, and as one tensor, which it doesn't; with dense
# layers beside them, which it then leaves out; with layers before the table of the head; with
# routers that are linear layers.
ADAPTED = (
    "gpt2", "llama", "gpt_neox", "qwen3", "mixtral", "qwen3_moe", "deepseek_v3", "afmoe",
    "minimax_m2", "qwen3_next", "gpt_oss", "granitemoe", "gemma4_text", "bert", "roberta", "opt",
    "bloom", "phi", "falcon", "xlm", "dbrx", "jetmoe", "llama4_text", "zaya", "gemma3n_text",
)  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.*(fan_in_fan_out|gradient_checkpointing|rank_pattern|alpha_pattern)"
)
@pytest.mark.parametrize("name", ADAPTED)
def test_lora_is_that_of_peft_on_all_linear_layers(name: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny_model(name)
    model.save_pretrained(tmp_path)
    needs = model_facts(str(tmp_path)).needs
    config = LoraConfig(task_type="CAUSAL_LM", r=LORA_RANK, target_modules="all-linear")
    adapted = get_peft_model(model, config)
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert needs is not None
    assert needs.lora_parameters == trained > 0


BUFFERS = {
    "transformer.h.0.attn.bias": (1, 1, 64, 64),
    "transformer.h.0.attn.masked_bias": (),
    "model.layers.0.self_attn.rotary_emb.inv_freq": (4,),
    "model.embeddings.position_ids": (1, 64),
    "model.layers.0.mlp.gate.e_score_correction_bias": (4,),
    "rope_freqs.weight": (4,),
    "model.layers.0.layer_scalar": (1,),
    "model.layers.0.self_attn.slope_rate": (4, 1, 1),
    "model.layers.0.self_attn.diagonal_decay": (1, 4, 16, 16),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_of_a_file_are_no_parameters(name: str) -> None:
    tensors = {name: Tensor(BUFFERS[name], "float32"), "wte.weight": Tensor((8, 2), "float32")}
    assert count_parameters(tensors, ties=True).total == 16


@pytest.mark.parametrize(("ties", "total"), [(True, 16), (False, 32)])
def test_a_head_that_is_stored_though_tied_counts_once(ties: bool, total: int) -> None:
    names = ("model.embed_tokens.weight", "lm_head.weight")
    counted = count_parameters(dict.fromkeys(names, Tensor((8, 2), "float32")), ties=ties)
    assert counted.total == total
    assert counted.tied is ties
    assert counted.multiplied == 16


def test_of_experts_those_that_work_on_a_token_are_active(tmp_path: Path) -> None:
    """Two of four: half of what the experts have is idle."""
    model = tiny("mixtral")
    model.save_pretrained(tmp_path)
    tensors, _ = read_headers(weight_files(ModelFiles("m", tmp_path)))
    counted = count_parameters(tensors, ties=False, num_experts=4, top_k=2)
    assert counted.active == counted.total - counted.parts["experts"] // 2
