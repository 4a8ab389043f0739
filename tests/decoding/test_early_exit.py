"""The first layers as a model, against the hidden states of the whole one."""

import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from gptft.decoding.early_exit import first_layers
from gptft.errors import ConfigError, ModelError

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**SIZES, initializer_range=0.25)).eval()
    if name == "opt":
        config = OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, init_std=0.25)
        return OPTForCausalLM(config).eval()
    wide = {**SIZES, "intermediate_size": 64, "initializer_range": 0.25}
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**wide)).eval()
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Qwen3Config(
        **wide,
        head_dim=16,
        num_key_value_heads=1,
        sliding_window=4,
        use_sliding_window=True,
        layer_types=types,
    )
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(request.param)


@torch.no_grad()
def exit_logits(model: PreTrainedModel, layer: int) -> torch.Tensor:
    state = model(IDS, output_hidden_states=True).hidden_states[layer]
    base = model.base_model
    norm = base.ln_f if isinstance(model, GPT2LMHeadModel) else base.norm
    return model.lm_head(norm(state))


@pytest.mark.parametrize("num_layers", [1, 2])
def test_its_logits_are_those_of_the_hidden_state(lm, num_layers):
    with torch.no_grad():
        logits = first_layers(lm, num_layers)(IDS).logits
    torch.testing.assert_close(logits, exit_logits(lm, num_layers))
    assert not torch.allclose(logits, exit_logits(lm, 3 - num_layers), atol=0.1)


def test_every_weight_is_shared(lm):
    whole = {tensor.data_ptr() for tensor in (*lm.parameters(), *lm.buffers())}
    view = first_layers(lm, 2)
    assert {tensor.data_ptr() for tensor in (*view.parameters(), *view.buffers())} < whole
    with torch.no_grad():
        lm.get_input_embeddings().weight[5] += 1
        torch.testing.assert_close(view(IDS).logits, exit_logits(lm, 2))


def test_the_model_stays_as_it_was(lm):
    before, logits = lm.config.to_dict(), lm(IDS).logits
    view = first_layers(lm, 1)
    view.generation_config.num_assistant_tokens = 17
    assert len(view(IDS, output_hidden_states=True).hidden_states) == 2
    assert len(lm(IDS, output_hidden_states=True).hidden_states) == 4
    assert lm.config.to_dict() == before
    assert lm.generation_config.num_assistant_tokens != 17
    assert torch.equal(lm(IDS).logits, logits)
    assert view.config.num_hidden_layers == 1


def test_as_a_draft_it_leaves_greedy_text_unchanged(lm):
    def write(**draft: PreTrainedModel) -> list[int]:
        config = GenerationConfig(
            max_new_tokens=30, do_sample=False, eos_token_id=0, pad_token_id=0
        )
        mask = torch.ones_like(IDS)
        return lm.generate(IDS, attention_mask=mask, generation_config=config, **draft)[0].tolist()

    view = first_layers(lm, 2)
    calls = []
    view.register_forward_hook(lambda *_: calls.append(1))
    assert write(assistant_model=view) == write()
    assert calls


def test_kinds_of_layers_are_cut_with_them():
    whole = build("qwen3")
    view = first_layers(whole, 2)
    assert view.config.layer_types == ["sliding_attention", "full_attention"]
    assert len(whole.config.layer_types) == 3
    torch.testing.assert_close(view(IDS).logits, exit_logits(whole, 2))
    config = GenerationConfig(max_new_tokens=10, do_sample=False, eos_token_id=0, pad_token_id=0)
    written = view.generate(IDS, attention_mask=torch.ones_like(IDS), generation_config=config)
    again = view(written).logits.argmax(dim=-1)
    assert written[0, 5:].tolist() == again[0, 4:-1].tolist()


def test_lists_of_as_many_tokens_are_not_cut():
    whole = build("llama")
    whole.config.eos_token_id = [0, 1, 2]
    assert first_layers(whole, 1).config.eos_token_id == [0, 1, 2]


def test_layers_deeper_inside_are_found():
    whole = build("opt")
    state = whole(IDS, output_hidden_states=True).hidden_states[2]
    by_hand = whole.lm_head(whole.model.decoder.final_layer_norm(state))
    torch.testing.assert_close(first_layers(whole, 2)(IDS).logits, by_hand)


@pytest.mark.parametrize("num_layers", [0, -1, 3, 4])
def test_a_number_out_of_range_is_refused(lm, num_layers):
    with pytest.raises(ConfigError, match=rf"first {num_layers} layers .* has 3, .* 1 to 2"):
        first_layers(lm, num_layers)


def test_a_model_without_such_a_list_is_refused(lm):
    lm.config.num_hidden_layers = 5
    with pytest.raises(ModelError, match=type(lm).__name__):
        first_layers(lm, 1)
