"""What is known of a model before it is loaded, and what its tokenizer can't write."""

import pytest
from tokenizers import Tokenizer, decoders, models, processors

from gptft.decoding.encoding import encode_bare, encode_prompt
from gptft.decoding.known_model import KnownModel, know_model
from gptft.decoding.settings import resolve_settings
from gptft.decoding.strategies import model_problems
from gptft.models.hub import find_model
from gptft.models.load import load_auto_tokenizer
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer, save_tokenizer


def letters() -> TextTokenizer:
    """A tokenizer of two letters, which drops all others and begins a text with <s>."""
    backend = Tokenizer(models.BPE({"<s>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")]))
    backend.add_special_tokens(["<s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A <s>", pair="<s> $A $B <s>", special_tokens=[("<s>", 0)]
    )
    backend.decoder = decoders.Fuse()
    backend.encode_special_tokens = True
    return TextTokenizer(backend, {"eos_token": "<s>"}, None, "letters")


def known(**config: object) -> KnownModel:
    return know_model("letters", {"model_type": "gpt2", **config}, tokenizer=letters())


@pytest.mark.parametrize(
    ("config", "context"),
    [({}, 1024), ({"n_positions": 32}, 32), ({"max_position_embeddings": 32}, 32)],
)
def test_the_context_is_the_configs_under_any_name_or_its_class_default(config, context):
    assert known(**config).context == context


def test_layers_are_counted_under_the_names_of_each_class():
    assert known(n_layer=3).num_layers == known(num_hidden_layers=3).num_layers == 3
    assert known().num_layers == 12  # transformers' GPT2Config
    assert know_model("x", {"model_type": "?"}, tokenizer=letters()).num_layers is None


@pytest.mark.parametrize("text", ["ab", "abba <s> ab", ""])
def test_ids_are_those_that_transformers_gives(tmp_path, text):
    save_tokenizer(letters(), tmp_path, model_max_length=8)
    theirs = load_auto_tokenizer(find_model(str(tmp_path), with_weights=False))
    ours = know_model("x", {}, tokenizer=load_tokenizer(str(tmp_path)))
    assert ours.encode(text) == encode_bare(theirs, text)
    assert ours.encode_prompt(text) == encode_prompt(theirs, text)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"bad_words": ["ab", "x"]}, "bad_words: 'x' has no tokens"),
        ({"allowed_words": ["x"]}, "allowed_words: 'x' has no tokens"),
        ({"logit_bias": {"x": 1.0}}, "logit_bias: 'x' is 0 tokens"),
        ({"force_words": ["x"]}, "force_words: a word has no tokens"),
        (
            {"force_words": ["ab"], "forced_eos_token_id": [0], "max_new_tokens": 1},
            "force_words need 1 token, and there is room for 0",
        ),
        ({"logit_bias": {"²": 1.0}}, "logit_bias: '²' is 0 tokens"),
        ({"choices": ["ab", "ax"]}, "choices: 'ax' isn't something that this tokenizer can write"),
        ({"regex": "x+"}, "no token of this model leads to a match of 'x+'"),
    ],
)
def test_texts_that_a_tokenizer_cant_write_are_refused(settings, problem):
    (found,) = model_problems(resolve_settings(settings), known(vocab_size=4))
    assert problem in found


def test_what_it_can_write_is_taken():
    for settings in ({"bad_words": ["ab"]}, {"choices": ["abab"]}, {"regex": "[ax]+"}):
        assert not list(model_problems(resolve_settings(settings), known(vocab_size=4)))


def test_a_model_with_more_or_fewer_logits_cant_be_compared():
    settings = resolve_settings({"amateur_model": "other"})
    other = {"amateur_model": known(vocab_size=8)}
    model = KnownModel("letters", letters(), 4, 2, 64, prompt_lengths=[1], auxiliary=other)
    (found,) = model_problems(settings, model)
    assert "amateur_model: it has a vocabulary of 8, and the main model one of 4" in found
