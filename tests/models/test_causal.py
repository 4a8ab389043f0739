"""Models that see the tokens they are to predict: by their config, and by asking them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models.causal import make_causal
from gptft.models.causal_probe import check_causal
from gptft.models.check import model_problems
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.new import new_model
from tests.architectures.models import tiny_model

FULL = {"attention_type": "original_full"}
# Architectures that see ahead, with what of their config must change.
AHEAD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("bert", {}, {"is_decoder": True}),
    ("roberta", {}, {"is_decoder": True}),
    ("electra", {}, {"is_decoder": True}),
    ("big_bird", {}, {"is_decoder": True, **FULL}),
    ("xlm", {}, {"causal": True}),
    ("xlnet", {}, {"attn_type": "uni"}),
    ("gemma", {"use_bidirectional_attention": True}, {"use_bidirectional_attention": None}),
    ("gemma3_text", {"use_bidirectional_attention": True}, {"use_bidirectional_attention": None}),
    ("gemma4_text", {"use_bidirectional_attention": "all"}, {"use_bidirectional_attention": None}),
    ("cpmant", {}, {}),
]
# Recurrent, state-space, hybrid, sparse, with experts, with a cross-attention that has no encoder.
CAUSAL = [
    "gpt2", "llama", "bloom", "opt", "mamba", "rwkv", "recurrent_gemma", "qwen3_next", "mixtral",
    "deepseek_v3", "gpt_oss", "reformer", "whisper", "bart", "prophetnet", "gemma2", "hrm_text",
]  # fmt: skip


def looks_ahead(model: PreTrainedModel, *, length: int = 16) -> float:
    """How much the logits of the first half move, at most, when the second half is another text."""
    generator = torch.Generator().manual_seed(3)
    one, other = torch.randint(5, 300, (2, 1, length), generator=generator)
    other[:, : length // 2] = one[:, : length // 2]
    model.eval()
    with torch.no_grad():
        seen = [
            model(input_ids=ids, use_cache=False).logits[0, : length // 2] for ids in (one, other)
        ]
    return float((seen[0] - seen[1]).abs().max())


@pytest.mark.parametrize(("model_type", "fields", "changes"), AHEAD)
def test_a_model_that_sees_ahead_is_refused_and_one_changed_as_told_is_not(
    model_type: str, fields: dict[str, Any], changes: dict[str, Any]
):
    model = tiny_model(model_type, **fields)
    assert looks_ahead(model) > 1e-4
    with pytest.raises(ModelError, match=rf"^tiny \({model_type}\) isn't causal"):
        check_causal(model, name="tiny")
    assert make_causal(model.config.to_dict()) == changes
    if changes:
        changed = tiny_model(model_type, **{**fields, **changes})
        assert make_causal(changed.config.to_dict()) is None
        assert looks_ahead(changed) < 1e-6
        check_causal(changed, name="tiny")


def test_the_sparse_attention_of_big_bird_sees_ahead_in_a_long_text():
    """Up to 14 tokens it is replaced by the full one, here and where a probe is short."""
    fields = {"is_decoder": True, "block_size": 2, "num_random_blocks": 1}
    assert looks_ahead(tiny_model("big_bird", **fields), length=32) > 1e-4
    assert looks_ahead(tiny_model("big_bird", **fields, **FULL), length=32) < 1e-6


@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_causal_model_passes_and_is_left_as_it_was(model_type: str):
    model = tiny_model(model_type).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = check_causal(model, name="tiny")
    assert found.difference < 0.1 * found.tolerance < 0.1 * found.influence
    assert make_causal(model.config.to_dict()) is None
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_decoder", [False, True])
def test_attention_that_does_nothing_yet_does_not_hide_it(is_decoder: bool, dtype: torch.dtype):
    """As of a projection that starts at zero: no logit says which tokens are seen."""
    model = tiny_model("bert", is_decoder=is_decoder).to(dtype)
    for name, weight in model.named_parameters():
        if "attention.output.dense.weight" in name:
            torch.nn.init.zeros_(weight)
    assert looks_ahead(model) == 0
    if is_decoder:
        check_causal(model, name="tiny")
    else:
        with pytest.raises(ModelError, match="isn't causal"):
            check_causal(model, name="tiny")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tiny_model("bert").save_pretrained(folder)
    return folder


def test_it_is_told_by_the_config_before_weights_are_read(bert: Path):
    told = rf"{bert} \(bert\) isn't causal.*Set model\.config_overrides: {{is_decoder: true}}"
    with pytest.raises(ModelError, match=told):
        load_for_training(str(bert))
    section = ModelConfig.model_validate({"name": str(bert)})
    [(path, problem)] = model_problems(section, masks_documents=False)
    assert path == ("model", "config_overrides")
    with pytest.raises(ModelError, match=told):
        raise ModelError(problem)
    overrides = {"config_overrides": {"is_decoder": True}}
    changed = ModelConfig.model_validate({"name": str(bert), **overrides})
    assert model_problems(changed, masks_documents=False) == []
    assert looks_ahead(load_for_training(str(bert), **overrides)) < 1e-6


def test_it_is_told_where_a_model_is_to_generate(bert: Path):
    with pytest.raises(ModelError, match=r"Set in its config\.json: {is_decoder: true}, or take"):
        load_for_inference(str(bert), device=torch.device("cpu"))


def test_a_new_model_is_asked_too(tmp_path: Path):
    sizes = {"model_type": "xlm", "emb_dim": 32, "n_layers": 1, "n_heads": 2}
    section = ModelConfig.model_validate({"from_scratch": sizes})
    [(path, problem)] = model_problems(section, masks_documents=False)
    assert (path, "{causal: true}" in problem) == (("model", "from_scratch"), True)
    settings = {"vocab_size": 99, "eos_token_id": 0, "seed": 1}
    with pytest.raises(ModelError, match=r"new model \(xlm\).*model\.from_scratch: {causal: true}"):
        new_model(sizes, **settings)
    assert (
        looks_ahead(new_model({**sizes, "causal": True}, **{**settings, "vocab_size": 320})) < 1e-6
    )
