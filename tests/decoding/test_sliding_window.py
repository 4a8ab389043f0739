import time

import pytest
import torch

from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.sliding_window import generate_windows
from gptft.decoding.special_tokens import special_tokens
from gptft.errors import ConfigError

CONTEXT = 48  # of the tiny model


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


@torch.no_grad()
def by_hand(model, ids, *, num_tokens, at_once=CONTEXT // 2, ban=(0,)):
    """Greedy windows as the docstring says: each continues the last tokens that leave it room."""
    written: list[int] = []
    while len(written) < num_tokens:
        length = min(at_once, num_tokens - len(written))
        window = [*ids, *written][-(CONTEXT - length + 1) :]
        for _ in range(length):
            logits = model(torch.tensor([window])).logits[0, -1]
            logits[list(ban)] = -torch.inf
            written.append(int(logits.argmax()))
            window.append(written[-1])
    return written


def windows(loaded, ids, **given):
    settings = resolve_settings({"suppress_tokens": 0, "seed": 1, **given})
    if settings.do_sample:
        torch.manual_seed(1)
    return generate_windows(loaded, ids, settings=settings)


class TestLongTexts:
    @pytest.mark.parametrize("num_tokens", [25, 48, 49, 100])
    @pytest.mark.parametrize("prompt", ["x", "Мороз и солнце; " * 9], ids=["short", "long"])
    def test_each_window_goes_on_from_the_last(self, loaded, tokenizer, num_tokens, prompt):
        ids = tokenizer(prompt)["input_ids"]
        expected = by_hand(loaded.model, ids, num_tokens=num_tokens)
        assert windows(loaded, ids, max_new_tokens=num_tokens) == [expected]

    def test_a_long_prompt_alone_is_cut_at_its_beginning(self, loaded, tokenizer):
        ids = tokenizer("Мороз и солнце; " * 9)["input_ids"]
        assert len(ids) > CONTEXT
        expected = by_hand(loaded.model, ids[-(CONTEXT - 9) :], num_tokens=10)
        assert windows(loaded, ids, max_new_tokens=10) == [expected]

    def test_what_is_written_is_reproducible_by_its_seed(self, loaded, tokenizer):
        given = {"max_new_tokens": 60, "temperature": 2.0}
        first = windows(loaded, [5], **given)
        assert windows(loaded, [5], **given) == first
        assert len(first[0]) == 60


class TestEnds:
    def likeliest(self, loaded, ids):
        return by_hand(loaded.model, ids, num_tokens=60)

    def test_eos_ends_the_text_in_whichever_window_it_comes(self, loaded):
        loaded.model.generation_config.eos_token_id = [0, 109]
        special = special_tokens(loaded.model, loaded.tokenizer)
        ended = LoadedModel(loaded.model, loaded.tokenizer, special)
        plain = self.likeliest(loaded, [5])
        (row,) = windows(ended, [5], max_new_tokens=60)
        first = plain.index(109)
        assert row == plain[: first + 1]

    def test_the_least_length_is_that_of_the_whole(self, loaded, tokenizer):
        given = {"max_new_tokens": 60, "logit_bias": {"0": 100.0}, "suppress_tokens": []}
        (row,) = windows(loaded, [5], min_new_tokens=50, **given)
        assert len(row) == 51
        assert row[-1] == 0
        assert 0 not in row[:50]
        (row,) = windows(loaded, [5], **given)
        assert row == [0]

    def test_an_end_is_forced_at_the_end_of_the_whole_alone(self, loaded):
        (row,) = windows(loaded, [5], max_new_tokens=60, forced_eos_token_id=7)
        assert row[:-1] == self.likeliest(loaded, [5])[:59]
        assert (len(row), row[-1]) == (60, 7)

    def test_what_is_banned_first_is_banned_first_alone(self, loaded):
        all_but_7 = [i for i in range(1, 300) if i != 7]
        (row,) = windows(loaded, [5], max_new_tokens=60, begin_suppress_tokens=all_but_7)
        rest = by_hand(loaded.model, [5, 7], num_tokens=23, at_once=23)
        assert row[:24] == [7, *rest]
        memory = [5, *row[:24]][-(CONTEXT - 24 + 1) :]
        assert row[24:48] == by_hand(loaded.model, memory, num_tokens=24)
        assert row[24] != 7

    def test_a_growing_wish_to_end_goes_on_growing(self, loaded):
        """Too small a factor to count within one window, large enough after some."""
        given = {"max_new_tokens": 240, "suppress_tokens": []}
        penalty = {"exponential_decay_length_penalty": [0, 1.02]}
        (plain,) = windows(loaded, [5], **given)
        (row,) = windows(loaded, [5], **given, **penalty)
        assert len(plain) == 240
        assert 24 < len(row) < 240

    def test_the_time_is_that_of_the_whole(self, loaded):
        began = time.monotonic()
        (row,) = windows(loaded, [5], max_new_tokens=5_000, max_time=0.3)
        assert time.monotonic() - began < 3
        assert 0 < len(row) < 5_000

    def test_a_stop_string_ends_it(self, loaded):
        settings = resolve_settings({"suppress_tokens": 0, "max_new_tokens": 60})
        (text,) = generate(loaded, ["x"], settings=settings, window=True)
        assert text.num_new_tokens == 60
        readable = [c for c in text.continuation[30:] if c.isalpha()]
        assert readable
        settings = resolve_settings(
            {"suppress_tokens": 0, "max_new_tokens": 60, "stop_strings": readable[0]}
        )
        (cut,) = generate(loaded, ["x"], settings=settings, window=True)
        assert cut.stopped == "stop_string"
        assert text.continuation.startswith(cut.continuation)
        assert readable[0] not in cut.continuation


class TestRefused:
    @pytest.mark.parametrize(
        "given",
        [
            {"num_beams": 2},
            {"top_k": 5, "num_return_sequences": 2},
            {"strategy": "mbr"},
            {"strategy": "best_of_n"},
        ],
        ids=str,
    )
    def test_what_has_to_see_the_text_as_a_whole(self, loaded, given):
        with pytest.raises(
            ConfigError, match=r"can't slide a window .* Set max_new_tokens to 24 or"
        ):
            windows(loaded, [5], max_new_tokens=25, **given)
        assert all(len(row) <= 24 for row in windows(loaded, [5] * 99, max_new_tokens=24, **given))

    @pytest.mark.parametrize(
        "given",
        [{"regex": "[а-я]{60}"}, {"choices": ["да", "нет"]}, {"context": "Мороз."}],
        ids=str,
    )
    @pytest.mark.parametrize("most", [10, 60])
    def test_what_goes_by_the_beginning(self, loaded, given, most):
        with pytest.raises(ConfigError, match="depends on the beginning of the text, which leaves"):
            windows(loaded, [5] * 60, max_new_tokens=most, **given)

    def test_a_model_without_a_limit_needs_no_window(self, loaded, monkeypatch):
        monkeypatch.setattr("gptft.decoding.sliding_window.context_of", lambda model: None)
        assert windows(loaded, [5, 6], max_new_tokens=30) == [
            by_hand(loaded.model, [5, 6], num_tokens=30, at_once=30)
        ]


class TestEngine:
    def test_prompts_that_fit_are_written_as_ever(self, loaded):
        settings = resolve_settings({"max_new_tokens": 12})
        prompts = ["Мороз", "x" * 60, "Буря"]
        together = generate(loaded, prompts, settings=settings, window=True)
        plain = [generate(loaded, [p], settings=settings)[0] for p in ("Мороз", "Буря")]
        assert [together[0], together[2]] == plain
        assert together[1].num_new_tokens == 12
        assert together[1].prompt_ids == tuple(loaded.tokenizer("x" * 60)["input_ids"])

    def test_a_text_that_slides_is_not_streamed(self, loaded):
        settings = resolve_settings({"max_new_tokens": 60})
        with pytest.raises(ConfigError, match="can't be streamed: a window slides over it"):
            generate(loaded, ["x"], settings=settings, window=True, on_text=print)
