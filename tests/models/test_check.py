"""What is known of a model before torch is loaded: its config's fields, the hub, the machine."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models import machine
from gptft.models.architectures import causal_types, find_architecture
from gptft.models.check import model_problems
from gptft.models.load import load_for_training
from gptft.models.precision import has_native_bfloat16
from gptft.models.present import find_weights
from tests.models.hub_server import Hub


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "opt", "bloom", "qwen2"])
def test_the_fields_of_an_architecture_are_those_of_its_config_class(model_type: str):
    config = AutoConfig.for_model(model_type)
    architecture = find_architecture(model_type)
    assert architecture is not None
    assert architecture.is_causal
    assert {*config.to_dict(), *config.attribute_map} <= architecture.names
    assert dict(config.attribute_map) == dict(architecture.aliases)
    for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"):
        assert architecture.value({}, name) == getattr(config, name)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "opt", "bloom", "qwen2"])
def test_no_value_that_a_config_class_has_itself_is_refused(model_type: str):
    architecture = find_architecture(model_type)
    assert architecture is not None
    values = AutoConfig.for_model(model_type).to_dict()
    assert {name: architecture.problem(name, value) for name, value in values.items()} == (
        dict.fromkeys(values)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("initializer_range", "1"),
        ("initializer_range", 1.5),
        ("use_cache", 1),
        ("vocab_size", True),
    ],
)
def test_what_a_config_class_refuses_is_told_without_it(name: str, value: object):
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        AutoConfig.for_model("llama", **{name: value})
    architecture = find_architecture("llama")
    assert architecture is not None
    assert architecture.problem(name, value)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"num_attention_heads": 4}, ["num_attention_heads"]),
        ({"head_dim": 4}, ["head_dim"]),
        ({"attention_bias": True}, ["attention_bias"]),
        ({"num_attention_heads": 2, "head_dim": 8}, []),
        ({"num_hidden_layers": 1, "rms_norm_eps": 1e-5}, []),
    ],
)
def test_an_override_that_the_weights_do_not_fit_is_named(
    overrides: dict[str, object], named: list[str], tmp_path: Path
):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = LlamaConfig(**sizes, num_key_value_heads=2, num_hidden_layers=2, vocab_size=8)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = {"name": str(tmp_path), "config_overrides": overrides}
    problems = model_problems(ModelConfig.model_validate(model), masks_documents=False)
    assert [path[-1] for path, _ in problems] == named
    if named:
        with pytest.raises(ModelError):
            load_for_training(str(tmp_path), config_overrides=overrides)
    else:
        load_for_training(str(tmp_path), config_overrides=overrides)


def test_an_override_of_another_type_is_named(tiny_model_dir: Path):
    model = {"name": str(tiny_model_dir), "config_overrides": {"num_key_value_heads": {"a": 1}}}
    problems = model_problems(ModelConfig.model_validate(model), masks_documents=False)
    path, problem = problems[0]
    assert path[-1] == "num_key_value_heads"
    assert "is not a field" in problem


def test_an_alias_and_its_field_are_one():
    architecture = find_architecture("gpt2")
    assert architecture is not None
    assert architecture.value({"n_embd": 32}, "hidden_size") == 32
    assert architecture.value({"hidden_size": 32}, "n_embd") == 32


def test_what_transformers_does_not_have_is_told_apart():
    with pytest.raises(LookupError):
        find_architecture("gpt3")
    vision = find_architecture("vit")
    assert vision is not None
    assert not vision.is_causal


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"model_type": "vit"}, "model.from_scratch.model_type: transformers knows no 'vit'"),
        ({"model_type": "gpt2", "n_layr": 2}, "n_layr is not a field of this model's config. Did"),
        ({"model_type": "gpt2", "n_layer": "2"}, "n_layer must be a whole number from 1"),
        ({"model_type": "llama", "hidden_size": 30, "num_attention_heads": 4}, "4 heads don't"),
        ({"model_type": "gpt2", "activation_function": ["gelu"]}, "can't be ['gelu']"),
        ({"model_type": "gpt2", "attn_implementation": {"sdpa": 1}}, "can't be {'sdpa': 1}"),
        (
            {"model_type": "gpt2", "vocab_size": "9", "pad_token_id": 3},
            "vocab_size must be a whole",
        ),
        ({"model_type": "llama", "head_dim": "64"}, "head_dim must be a whole number"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": ["x"]}}, "can't be ['x']"),
    ],
)
def test_a_new_model_that_cannot_be_made_is_named(model: dict[str, object], said: str):
    section = ModelConfig.model_validate({"from_scratch": model})
    [(path, problem)] = model_problems(section, masks_documents=False)
    assert path[:2] == ("model", "from_scratch")
    assert said in problem


def test_the_architectures_with_a_causal_language_model_are_those_of_transformers():
    assert causal_types() == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()


@pytest.mark.parametrize("model_type", ["t5", "vit", "emu3_text_model", "gpt9"])
def test_a_base_that_is_no_language_model_is_named(tmp_path: Path, model_type: str):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}', encoding="utf-8")
    (tmp_path / "model.safetensors").touch()
    section = ModelConfig.model_validate({"name": str(tmp_path)})
    [(path, problem)] = model_problems(section, masks_documents=False)
    assert path == ("model", "name")
    assert f"{tmp_path} is a {model_type}, and transformers" in problem
    if model_type != "gpt9":  # whose config no transformers reads
        with pytest.raises(ModelError, match=rf"is a {model_type}, and transformers"):
            load_for_training(str(tmp_path))


@pytest.mark.parametrize(
    "model_type",
    ["gpt2", "llama", "glm", "glm4_moe", "reformer", "codegen", "gpt_neox", "gemma3_text"],
)
def test_a_new_model_of_default_sizes_is_right_however_they_divide(model_type: str):
    fields = {
        "model_type": model_type,
        **({"is_decoder": True} if model_type == "reformer" else {}),
    }
    section = ModelConfig.model_validate({"from_scratch": fields})
    assert model_problems(section, masks_documents=False) == []


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_the_hub_is_asked_for_a_model_that_is_not_here(hub: Hub, weights: str):
    hub.add("owner/model", {"config.json": b"{}", weights: b"1", "onnx/model.onnx": b"2"})
    assert find_weights("owner/model") is None
    with pytest.raises(ModelError, match="owner/other: no such folder here, and it can't be had"):
        find_weights("owner/other")
    assert hub.fetched() == []


def test_the_hubs_weights_of_other_libraries_are_none(hub: Hub):
    others = ("tf_model.h5", "flax_model.msgpack", "original/model.safetensors")
    hub.add("owner/model", {"config.json": b"{}", **dict.fromkeys(others, b"1")})
    with pytest.raises(ModelError, match=r"no weights that gptft reads\. It has config\.json, "):
        find_weights("owner/model")


@pytest.mark.parametrize(
    ("config", "more", "words"),
    [
        ({"model_type": "vit"}, {}, "is a vit, and transformers"),
        ({"model_type": "bert"}, {}, "is_decoder"),
        ({}, {}, "names no model_type"),
        ({"model_type": "gpt2", "quantization_config": {"quant_method": "awq"}}, {}, "quantized"),
        ({"model_type": "gpt2"}, {"config_overrides": {"resid_prop": 0.1}}, "resid_pdrop"),
    ],
)
def test_what_the_config_of_a_hub_model_says_is_checked_without_its_weights(
    hub: Hub, config: dict[str, str], more: dict[str, Any], words: str
):
    files = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}"}
    hub.add("owner/model", {**files, "model.safetensors": b"1"})
    section = ModelConfig.model_validate({"name": "owner/model", **more})
    found = [message for _, message in model_problems(section, masks_documents=False)]
    assert len(found) == 1
    assert words in found[0]
    assert not hub.ranges()


def test_a_model_that_lost_a_part_of_its_weights_is_refused(tmp_path: Path, tiny_model_dir: Path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(tiny_model_dir / name)
    index = '{"weight_map": {"a": "model-00002.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(ModelError, match=r"lacks a \.safetensors file that its index names"):
        find_weights(str(tmp_path))


def test_the_machine_is_what_torch_finds():
    assert machine.cpu_has_bfloat16() is has_native_bfloat16(torch.device("cpu"))
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    assert machine.accelerator() == (found.type if found else None)
    if torch.cuda.is_available():
        assert machine.cuda_capability() == torch.cuda.get_device_capability()
