import pytest
import torch

from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.prompts.healing import heal
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.errors import ConfigError


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def spelled(tokenizer):
    """What each token adds to a text, for tokens that are whole characters."""
    texts = {i: tokenizer.decode([i]) for i in range(1, tokenizer.vocab_size)}
    return {i: text for i, text in texts.items() if text and "\ufffd" not in text}


@pytest.mark.parametrize("prompt", ["Мороз и с", "Буря мглою е", "день ч", "Мороз "])
def test_the_last_token_becomes_the_likeliest_that_begins_with_its_text(loaded, tokenizer, prompt):
    ids = tokenizer(prompt)["input_ids"]
    texts = spelled(tokenizer)
    candidates = [i for i, text in texts.items() if text.startswith(texts[ids[-1]])]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids[:-1]])).logits[0, -1]
    best = max(candidates, key=lambda i: float(logits[i]))
    assert heal(loaded, ids) == [*ids[:-1], best]


def test_some_prompt_is_changed_by_it(loaded, tokenizer):
    texts = spelled(tokenizer)
    short = [i for i, text in texts.items() if text.isalpha() and len(text) == 1]
    healed = [heal(loaded, [7, 9, i]) for i in short]
    assert any(ids[-1] != i for ids, i in zip(healed, short, strict=True))
    for ids, i in zip(healed, short, strict=True):
        assert ids[:2] == [7, 9]
        assert texts[ids[-1]].startswith(texts[i])


def test_what_has_nothing_before_it_or_ends_within_a_character_stays(loaded, tokenizer):
    assert heal(loaded, tokenizer("с")["input_ids"][:1]) == tokenizer("с")["input_ids"][:1]
    half = tokenizer("м")["input_ids"]
    assert len(half) == 2
    ids = [7, 9, half[0]]
    assert heal(loaded, ids) == ids


def test_the_given_ids_are_not_changed(loaded):
    ids = [7, 9, 40]
    heal(loaded, ids)
    assert ids == [7, 9, 40]


def test_of_a_prompt_beyond_the_context_the_end_is_seen(loaded):
    ids = [7, 9] * 40 + [40]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids[-49:-1]])).logits[0, -1]
    healed = heal(loaded, ids)
    assert healed[:-1] == ids[:-1]
    assert healed[-1] == heal(loaded, ids[-49:])[-1]
    assert logits[healed[-1]] >= logits[40]


def test_a_token_that_the_model_lacks_is_no_candidate(loaded, tokenizer):
    ids = {text: i for i, text in spelled(tokenizer).items()}
    tail, longer = next((ids[t[0]], i) for t, i in ids.items() if len(t) > 1 and t[0] in ids)
    loaded.model.resize_token_embeddings(longer)
    assert tail < longer
    assert heal(loaded, [7, 9, tail])[-1] < longer


class TestInTexts:
    def healed(self, loaded, tokenizer):
        """A prompt whose last token is healed into a longer one."""
        texts = spelled(tokenizer)
        for head in ("x", "Мороз", "небо", "день", "и"):
            for i, text in texts.items():
                ids = tokenizer(head + text)["input_ids"]
                if len(text) == 1 and ids[-1] == i and len(ids) > 1 and heal(loaded, ids) != ids:
                    return head + text, ids
        raise AssertionError

    def test_the_prompt_is_kept_and_the_text_is_that_of_the_healed_ids(self, loaded, tokenizer):
        prompt, ids = self.healed(loaded, tokenizer)
        settings = resolve_settings({"token_healing": True, "max_new_tokens": 8})
        (text,) = generate(loaded, [prompt], settings=settings)
        healed = heal(loaded, ids)
        assert text.prompt_ids == tuple(healed)
        assert text.prompt == prompt
        whole = tokenizer.decode([*healed, *text.new_ids]).rstrip("\ufffd")
        assert text.text == whole
        assert text.text.startswith(prompt)
        assert len(tokenizer.decode(healed)) > len(prompt)

    def test_stop_strings_cut_it_too(self, loaded, tokenizer):
        prompt, ids = self.healed(loaded, tokenizer)
        extra = tokenizer.decode(heal(loaded, ids))[len(prompt) :]
        settings = resolve_settings(
            {"token_healing": True, "max_new_tokens": 8, "stop_strings": extra}
        )
        (text,) = generate(loaded, [prompt], settings=settings)
        assert (text.continuation, text.stopped) == ("", "stop_string")

    def test_a_prompt_too_long_is_refused_as_ever(self, loaded):
        settings = resolve_settings({"token_healing": True, "max_new_tokens": 8})
        with pytest.raises(ConfigError, match="it doesn't fit the model's context of 48"):
            generate(loaded, ["Мороз и солнце; " * 9], settings=settings)
        assert generate(loaded, ["Мороз и солнце; " * 9], settings=settings, window=True)

    def test_it_is_off_unless_asked_for(self, loaded, tokenizer):
        prompt, ids = self.healed(loaded, tokenizer)
        (text,) = generate(loaded, [prompt], settings=resolve_settings({"max_new_tokens": 2}))
        assert text.prompt_ids == tuple(ids)
