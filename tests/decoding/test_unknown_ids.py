"""A model with more embeddings than its tokenizer has tokens, all of the others the likeliest."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.predict import predict_steps
from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.batch import batch_context
from gptft.decoding.engine import generate
from gptft.decoding.known_model import know_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.decoding.strategies import STRATEGIES, model_problems
from gptft.errors import ConfigError
from gptft.tokenization.tokenizer import load_tokenizer
from tests.decoding.test_identities import NEEDED


def padded(*, layers: int = 3, seed: int = 1) -> PreTrainedModel:
    """GPT-2 with 320 embeddings, of which the last 20 are always the likeliest."""
    torch.manual_seed(seed)
    sizes = {"n_layer": layers, "n_head": 2, "n_embd": 32, "n_positions": 96}
    config = GPT2Config(
        vocab_size=320, **sizes, initializer_range=0.25, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config).eval()
    favoured = torch.zeros(320)
    favoured[300:] = 50.0
    model.lm_head.register_forward_hook(lambda _, __, logits: logits + favoured)
    return model


@pytest.fixture(scope="module")
def loaded(tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    model = padded()
    others = {
        "assistant_model": padded(layers=1),
        "antiexpert_model": padded(seed=9),
    }
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer), AuxiliaryModels(others))


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_takes_them(loaded: LoadedModel, name: str):
    given: dict[str, Any] = {"max_new_tokens": 6, "seed": 1, **NEEDED.get(name, {})}
    if STRATEGIES[name].draws == "asked":
        given["do_sample"] = True
    settings = resolve_settings({"strategy": name, **given})
    texts = generate(loaded, ["Мороз", "x"], settings=settings)
    assert all(token < 300 for text in texts for token in text.new_ids)
    assert any(text.new_ids for text in texts)


def test_they_are_told_from_the_tokenizer(loaded: LoadedModel):
    assert loaded.special.unknown == tuple(range(300, 320))
    assert int(loaded.model(torch.tensor([[5]])).logits[0, -1].argmax()) >= 300


def test_those_within_its_vocabulary_and_an_eos_of_the_model_alone(
    tokenizer: PreTrainedTokenizerBase,
):
    model = padded()
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [0, 310]
    special = special_tokens(model, tokenizer)
    assert special.eos == (0, 310)
    assert special.unknown == (*range(300, 310), *range(311, 320))
    (text,) = generate(LoadedModel(model, tokenizer, special), ["x"], settings=resolve_settings({}))
    assert (text.new_ids, text.stopped) == ((), "eos")


def test_nothing_is_ruled_out_where_the_tokenizer_has_them_all(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
):
    whole = LoadedModel(model, tokenizer, special_tokens(model, tokenizer))
    assert named_processors(resolve_settings({}), batch_context(whole, [[5]], rows=1)) == []


def test_predict_says_what_ruled_them_out(loaded: LoadedModel):
    settings = resolve_settings({"logit_bias": {"310": 9.0}})
    processors = named_processors(settings, batch_context(loaded, [[5, 6]], rows=1))
    steps = predict_steps(
        loaded.model, loaded.tokenizer, [5, 6], processors=processors, steps=2, top=3
    )
    for step in steps:
        assert step.chosen < 300
        assert (step.kept[0].name, step.kept[0].num_after) == ("unknown_ids", 300)
        assert {row.cut_by for row in step.rows if row.token_id >= 300} == {"unknown_ids"}


def test_none_can_be_forced_as_the_last(loaded: LoadedModel, model_dir):
    settings = resolve_settings({"forced_eos_token_id": 310})
    with pytest.raises(ConfigError, match="the tokenizer has no token of id 310"):
        generate(loaded, ["x"], settings=settings)
    known = know_model("x", {"vocab_size": 320}, tokenizer=load_tokenizer(str(model_dir)))
    assert [*model_problems(settings, known)] == [
        "forced_eos_token_id: the tokenizer has no token of id 310."
    ]
    assert [*model_problems(resolve_settings({"forced_eos_token_id": 299}), known)] == []
