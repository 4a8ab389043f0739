import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from gptft.decoding.auxiliary_models import load_auxiliary_models
from gptft.decoding.engine import generate, load_model
from gptft.decoding.settings import resolve_settings
from gptft.errors import ConfigError, ModelError
from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.decoding.conftest import VERSES

CPU = torch.device("cpu")


def make(folder, tokenizer, *, seed, context=48):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, n_positions=context,
        initializer_range=0.25, eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def family(tmp_path_factory, model_dir):
    """A smaller model with the tokenizer of the one that writes."""
    folder = tmp_path_factory.mktemp("family")
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.save_pretrained(folder)
    return make(folder, tokenizer, seed=5)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A model with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("stranger")
    tokenizer = train_bpe(iter(VERSES * 2), vocab_size=280, min_frequency=2)
    save_tokenizer(tokenizer, folder, model_max_length=48)
    return make(folder, tokenizer, seed=6)


def load(tokenizer, **given):
    settings = resolve_settings({"seed": 1, **given})
    return load_auxiliary_models(settings, tokenizer, device=CPU, dtype="float32")


def test_settings_that_name_none_load_none(tokenizer):
    for given in ({}, {"strategy": "contrastive_decoding", "amateur_layers": 1}):
        others = load(tokenizer, **given)
        assert (dict(others.models), others.assistant_tokenizer) == ({}, None)


def test_each_is_loaded_under_the_setting_that_names_it(tokenizer, family, model_dir):
    others = load(tokenizer, expert_model=str(family), antiexpert_model=str(model_dir))
    sizes = {name: model.config.n_layer for name, model in others.models.items()}
    assert sizes == {"expert_model": 1, "antiexpert_model": 2}
    assert all(not model.training for model in others.models.values())
    assert [*load(tokenizer, amateur_model=str(family)).models] == ["amateur_model"]


def test_a_draft_of_the_family_brings_no_tokenizer_and_a_stranger_its_own(
    tokenizer, family, stranger
):
    assert load(tokenizer, assistant_model=str(family)).assistant_tokenizer is None
    others = load(tokenizer, assistant_model=str(stranger))
    assert others.assistant_tokenizer.get_vocab() != tokenizer.get_vocab()
    assert others.models["assistant_model"].config.vocab_size == 280


@pytest.mark.parametrize("setting", ["amateur_model", "expert_model", "antiexpert_model"])
def test_whose_logits_are_compared_must_share_the_tokenizer(tokenizer, stranger, setting):
    with pytest.raises(ConfigError) as caught:
        load(tokenizer, **{setting: str(stranger)})
    assert str(caught.value) == (
        f"{setting}: {stranger} has another tokenizer (280 tokens, this model 300), and their "
        "logits are to be compared token by token. Take a model of the same family."
    )


@pytest.mark.parametrize("setting", ["assistant_model", "amateur_model", "expert_model"])
def test_one_that_is_not_there_is_refused(tokenizer, setting):
    with pytest.raises(ModelError, match="nowhere"):
        load(tokenizer, **{setting: "./nowhere"})


class TestInTexts:
    def text(self, model_dir, **given):
        settings = resolve_settings({"max_new_tokens": 12, "seed": 2, **given})
        loaded = load_model(str(model_dir), settings=settings, use_cpu=True)
        return generate(loaded, ["Мороз"], settings=settings)[0].new_ids

    def test_a_draft_changes_no_token_whichever_its_tokenizer(self, model_dir, family, stranger):
        plain = self.text(model_dir)
        assert self.text(model_dir, assistant_model=str(family)) == plain
        assert self.text(model_dir, assistant_model=str(stranger)) == plain

    def test_an_amateur_and_experts_do(self, model_dir, family):
        plain = self.text(model_dir)
        assert self.text(model_dir, amateur_model=str(family), cd_beta=1.0) != plain
        assert self.text(model_dir, antiexpert_model=str(family)) != plain
        alone = self.text(model_dir, expert_model=str(family), antiexpert_model=str(family))
        assert alone == plain  # the two pull against each other


@pytest.mark.parametrize("of_family", [True, False], ids=["family", "stranger"])
def test_a_draft_that_sees_less_than_the_text_is_refused(model_dir, tmp_path, of_family):
    if of_family:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        tokenizer.save_pretrained(tmp_path)
    else:
        tokenizer = train_bpe(iter(VERSES * 2), vocab_size=270, min_frequency=2)
        save_tokenizer(tokenizer, tmp_path, model_max_length=12)
    make(tmp_path, tokenizer, seed=7, context=12)
    given = {"assistant_model": str(tmp_path), "max_new_tokens": 30, "min_new_tokens": 30}
    settings = resolve_settings(given)
    loaded = load_model(str(model_dir), settings=settings, use_cpu=True)
    with pytest.raises(ConfigError, match="assistant_model"):
        generate(loaded, ["Мороз"], settings=settings)
