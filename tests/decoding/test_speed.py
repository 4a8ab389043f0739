import itertools
from types import SimpleNamespace

import pytest
from transformers.generation.candidate_generator import (
    AssistedCandidateGenerator,
    PromptLookupCandidateGenerator,
)

from gptft.decoding import speed
from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens
from gptft.decoding.speed import SpeedMeter
from gptft.files import as_json

PROMPT = "Мороз и солнце; день"


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def written(loaded, prompts=(PROMPT,), **given):
    """The texts, their speed, and the meter."""
    settings = resolve_settings({"max_new_tokens": 12, "seed": 3, **given})
    with SpeedMeter(loaded.model) as meter:
        texts = generate(loaded, prompts, settings=settings)
    return texts, meter.speed(texts), meter


@pytest.fixture
def drafts(monkeypatch):
    """How many tokens transformers drafted and kept, as its own generators are told."""
    counted = SimpleNamespace(drafted=0, kept=0)

    def watch(generator):
        get, update = generator.get_candidates, generator.update_candidate_strategy

        def get_candidates(self, input_ids, *args, **kwargs):
            found = get(self, input_ids, *args, **kwargs)
            counted.drafted += found[0].shape[1] - input_ids.shape[1]
            return found

        def update_candidate_strategy(self, input_ids, scores, num_matches):
            counted.kept += int(num_matches)
            return update(self, input_ids, scores, num_matches)

        monkeypatch.setattr(generator, "get_candidates", get_candidates)
        monkeypatch.setattr(generator, "update_candidate_strategy", update_candidate_strategy)

    watch(PromptLookupCandidateGenerator)
    watch(AssistedCandidateGenerator)
    return counted


class TestCalls:
    def test_greedy_calls_the_model_once_a_token(self, loaded, tokenizer):
        texts, measured, meter = written(loaded, strategy="greedy")
        length = len(tokenizer(PROMPT)["input_ids"])
        assert texts[0].stopped == "length"
        assert meter.input_lengths == (length, *[1] * 11)
        assert (measured.num_tokens, measured.model_calls, measured.tokens_per_call) == (12, 12, 1)
        assert measured.draft_acceptance is None

    def test_an_eos_is_a_token_that_was_written(self, loaded):
        bias = {str(loaded.special.eos[0]): 1000.0}
        (text,), measured, _ = written(loaded, strategy="greedy", logit_bias=bias)
        assert (text.stopped, text.num_new_tokens) == ("eos", 0)
        assert (measured.num_tokens, measured.model_calls) == (1, 1)

    def test_guidance_calls_the_model_twice_a_token(self, loaded):
        _, measured, _ = written(loaded, strategy="guidance")
        assert (measured.num_tokens, measured.tokens_per_call) == (12, 0.5)

    def test_a_view_of_the_first_layers_is_another_model(self, loaded):
        given = {"strategy": "contrastive_decoding", "amateur_layers": 1}
        _, measured, _ = written(loaded, **given)
        assert measured.model_calls == 12

    def test_several_prompts_of_a_batch_share_calls(self, loaded):
        _, measured, meter = written(loaded, (PROMPT, "Буря"), strategy="greedy")
        assert (measured.num_tokens, meter.num_calls) == (24, 12)

    def test_a_model_is_left_as_it_was(self, loaded):
        def boom(*_):
            raise ZeroDivisionError

        handle = loaded.model.register_forward_hook(boom)
        with pytest.raises(ZeroDivisionError):
            written(loaded, strategy="greedy")
        handle.remove()
        assert not loaded.model._forward_hooks
        assert not loaded.model._forward_pre_hooks


class TestDrafts:
    def test_prompt_lookup(self, loaded, drafts):
        prompt = "небо небо небо"
        texts, measured, _ = written(loaded, (prompt,), strategy="prompt_lookup")
        assert drafts.drafted > drafts.kept
        assert measured.draft_acceptance == drafts.kept / drafts.drafted
        assert measured.model_calls == measured.num_tokens - drafts.kept
        assert measured.num_tokens == texts[0].num_new_tokens

    def test_several_prompts(self, loaded, drafts):
        prompts = ("небо небо небо", "Мороз, Мороз, ")
        _, measured, _ = written(loaded, prompts, strategy="prompt_lookup")
        assert measured.draft_acceptance == drafts.kept / drafts.drafted

    def test_a_model_keeps_all_of_what_it_drafts_for_itself(self, loaded, model_dir, drafts):
        given = {"strategy": "assisted", "assistant_model": str(model_dir)}
        twin = type(loaded.model).from_pretrained(model_dir).eval()
        both = LoadedModel(
            loaded.model,
            loaded.tokenizer,
            loaded.special,
            AuxiliaryModels({"assistant_model": twin}),
        )
        _, measured, _ = written(both, **given, num_assistant_tokens=3)
        # Three drafted and one of the model's own, three times.
        assert (measured.model_calls, drafts.drafted) == (3, 9)
        assert (measured.draft_acceptance, measured.tokens_per_call) == (1.0, 4.0)

    def test_early_exit(self, loaded, drafts):
        _, measured, _ = written(loaded, strategy="early_exit")
        assert drafts.drafted
        assert measured.draft_acceptance == drafts.kept / drafts.drafted

    def test_nothing_drafted_is_no_acceptance(self, loaded, drafts):
        _, measured, _ = written(loaded, ("Б",), strategy="prompt_lookup", max_new_tokens=1)
        assert drafts.drafted == 0
        assert measured.draft_acceptance is None

    def test_a_window_leaves_it_open(self, loaded):
        settings = resolve_settings({"strategy": "early_exit", "max_new_tokens": 60})
        with SpeedMeter(loaded.model) as meter:
            texts = generate(loaded, [PROMPT], settings=settings, window=True)
        measured = meter.speed(texts)
        assert (measured.num_tokens, measured.draft_acceptance) == (60, None)


def test_seconds(loaded, monkeypatch):
    clock = itertools.chain([10.0, 10.5, 14.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    _, measured, _ = written(loaded, strategy="greedy")
    assert as_json(measured) == {
        "tokens_per_s": 3.0,
        "seconds": 4.0,
        "seconds_to_first_token": 0.5,
        "model_calls": 12,
        "tokens_per_call": 1.0,
        "draft_acceptance": None,
    }
