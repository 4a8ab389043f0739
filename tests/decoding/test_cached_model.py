"""A model fed step by step against the same model given everything at once, without a cache."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    RwkvConfig,
    RwkvForCausalLM,
)

from gptft import api
from gptft.decoding.cached_model import CachedModel
from gptft.errors import ModelError
from tests.architectures.models import save_tiny_model

TEXT = torch.tensor([[5, 17, 33, 8, 41, 9]])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    if request.param == "gpt2":
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 32}
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=60, initializer_range=0.25, **shape, bos_token_id=0, eos_token_id=0
            )
        ).eval()
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=60, initializer_range=0.25, intermediate_size=64, **shape)
    ).eval()


def at_once(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, use_cache=False).logits[:, -1]


def test_tokens_can_be_fed_in_any_portions(lm):
    cached = CachedModel.of(lm)
    for portion in TEXT.split([3, 1, 2], dim=1):
        logits = cached.next_logits(portion)
    torch.testing.assert_close(logits, at_once(lm, TEXT), atol=1e-5, rtol=1e-5)


def test_a_padded_text_is_continued_as_alone(lm):
    ids = torch.tensor([[5, 17, 33, 8], [0, 0, 41, 9]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    cached = CachedModel.of(lm)
    output = cached.feed(ids, attention_mask=mask, logits_to_keep=1)
    assert output.logits.shape == (2, 1, 60)
    logits = cached.next_logits(torch.tensor([[7], [7]]))
    alone = at_once(lm, torch.tensor([[41, 9, 7]]))
    torch.testing.assert_close(logits[1:], alone, atol=1e-5, rtol=1e-5)
    assert cached.position.tolist() == [[4], [2]]


def test_rows_can_be_selected_and_tokens_taken_back(lm):
    cached = CachedModel.of(lm)
    cached.feed(torch.tensor([[5, 17, 33], [8, 41, 9]]))
    cached.select_rows(torch.tensor([1, 1, 0]))
    cached.feed(torch.tensor([[3, 4], [5, 6], [7, 8]]))
    cached.crop(1)
    logits = cached.next_logits(torch.tensor([[2], [2], [2]]))
    texts = torch.tensor([[8, 41, 9, 3, 2], [8, 41, 9, 5, 2], [5, 17, 33, 7, 2]])
    torch.testing.assert_close(logits, at_once(lm, texts), atol=1e-5, rtol=1e-5)


def test_what_is_read_last_is_not_cached(lm):
    cached = CachedModel.of(lm)
    cached.feed(TEXT, is_last=True)
    assert cached.cache.get_seq_length() == 0


def test_a_model_without_keys_and_values_reads_once_only():
    shape = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2}
    cached = CachedModel.of(RwkvForCausalLM(RwkvConfig(**shape)).eval())
    with pytest.raises(ModelError, match="RwkvForCausalLM keeps no keys and values"):
        cached.feed(TEXT)
    assert cached.next_logits(TEXT, is_last=True).shape == (1, 60)


def test_a_model_that_transformers_makes_no_cache_for_writes_without_one(tmp_path: Path):
    """BLT's config has several numbers of layers: stock must be told to use no cache, too."""
    save_tiny_model("blt", tmp_path)
    given = {"strategy": "greedy", "max_new_tokens": 6}
    (ours,) = api.generate(str(tmp_path), ["Буря"], given=given, use_cpu=True).texts
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([ours.prompt_ids])
    stock = model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    assert list(ours.new_ids) == stock[0, ids.shape[1] :].tolist()
    for strategy in ("contrastive", "lookahead"):
        given = {"strategy": strategy, "max_new_tokens": 6}
        with pytest.raises(ModelError, match="BltForCausalLM keeps no keys and values"):
            api.generate(str(tmp_path), ["Буря"], given=given, use_cpu=True)


def test_an_id_that_a_model_reads_and_never_writes_is_no_logit(tmp_path: Path):
    """Moshi has an embedding more than logits."""
    save_tiny_model("moshi", tmp_path)
    given = {"strategy": "greedy", "max_new_tokens": 6}
    (ours,) = api.generate(str(tmp_path), ["Буря"], given=given, use_cpu=True).texts
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([ours.prompt_ids])
    stock = model.generate(ids, max_new_tokens=6, do_sample=False)
    assert list(ours.new_ids) == stock[0, ids.shape[1] :].tolist()


def test_mamba_is_fed_and_selected_token_by_token_and_refuses_more():
    torch.manual_seed(0)
    shape = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    mamba = MambaForCausalLM(MambaConfig(**shape, initializer_range=0.3)).eval()
    cached = CachedModel.of(mamba)
    cached.feed(torch.tensor([[5, 17, 33], [8, 41, 9]]))
    cached.select_rows(torch.tensor([1, 1, 0]))
    logits = cached.next_logits(torch.tensor([[3], [4], [5]]))
    texts = torch.tensor([[8, 41, 9, 3], [8, 41, 9, 4], [5, 17, 33, 5]])
    torch.testing.assert_close(logits, at_once(mamba, texts), atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="MambaForCausalLM keeps no keys and values"):
        cached.feed(torch.tensor([[3, 4]] * 3))
