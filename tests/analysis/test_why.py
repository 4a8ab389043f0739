import math

import pytest
import torch

from gptft.analysis.why import explain
from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import special_tokens

PROMPT = "Мороз и солнце"


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def write(loaded, prompts=(PROMPT,), **given):
    settings = resolve_settings({"max_new_tokens": 8, "seed": 1, **given})
    return generate(loaded, list(prompts), settings=settings)


@torch.no_grad()
def logits_of(model, text):
    """What each new token was chosen from, shape (new, V), read at once and without a cache."""
    ids = [*text.prompt_ids, *text.new_ids]
    return model(torch.tensor([ids])).logits[0, len(text.prompt_ids) - 1 : -1].double()


def test_each_new_token_has_its_probability_and_the_prompts_have_none(loaded, model):
    texts = write(loaded, [PROMPT, "x"])
    found = explain(loaded, texts)
    assert len(found) == 2
    for text, pieces in zip(texts, found, strict=True):
        assert [p.token.id for p in pieces] == [*text.prompt_ids, *text.new_ids]
        start = len(text.prompt_ids)
        assert all(p.score is None for p in pieces[:start])
        expected = logits_of(model, text).log_softmax(-1)
        for piece, row in zip(pieces[start:], expected, strict=True):
            assert piece.score.logprob == pytest.approx(float(row[piece.token.id]), abs=1e-4)
            assert piece.score.rank == 1  # greedy takes the likeliest
            best = row.argsort(descending=True)[1:6].tolist()
            assert [i for i, *_ in piece.score.runners_up] == best


def test_settings_change_the_second_probability_alone(loaded, model):
    (text,) = write(loaded, top_k=3, temperature=2.0)
    (pieces,) = explain(loaded, [text])
    plain, start = logits_of(model, text), len(text.prompt_ids)
    for piece, row in zip(pieces[start:], plain, strict=True):
        cut = (row / 2).masked_fill(row < row.topk(3).values[-1], -torch.inf).log_softmax(-1)
        token = piece.token.id
        assert piece.score.logprob == pytest.approx(float(row.log_softmax(-1)[token]), abs=1e-4)
        assert piece.score.processed_logprob == pytest.approx(float(cut[token]), abs=1e-4)
        assert piece.score.rank <= 3


def test_penalties_see_the_text_as_it_was_at_each_step(loaded, model):
    (text,) = write(loaded, ["x"], frequency_penalty=1.5)
    (pieces,) = explain(loaded, [text])
    rows = logits_of(model, text)
    for n, row in enumerate(rows):
        for token in text.new_ids[:n]:
            row[token] -= 1.5
        piece = pieces[len(text.prompt_ids) + n]
        expected = float(row.log_softmax(-1)[piece.token.id])
        assert piece.score.processed_logprob == pytest.approx(expected, abs=1e-4)
        assert int(row.argmax()) == piece.token.id


def test_what_settings_took_away_is_impossible_after_them(loaded):
    (text,) = write(loaded, suppress_tokens=[109, 246])
    (pieces,) = explain(loaded, [text], num_runners_up=300)
    for piece in pieces[len(text.prompt_ids) :]:
        after = {i: processed for i, _, processed in piece.score.runners_up}
        assert after[109] == after[246] == 0.0
        assert math.isfinite(piece.score.processed_logprob)


def test_more_than_the_context_holds_is_explained_too(loaded):
    settings = resolve_settings({"max_new_tokens": 60, "suppress_tokens": 0})
    (text,) = generate(loaded, ["x"], settings=settings, window=True)
    (pieces,) = explain(loaded, [text])
    assert len(pieces) == 61
    assert all(math.isfinite(p.score.logprob) for p in pieces[1:])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"num_return_sequences": 3},
        {"strategy": "best_of_n", "num_candidates": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_what_chance_removed_is_removed_again(loaded, given, seed):
    """A token that was drawn was one of those left, each time."""
    cut = {"xtc_probability": 0.5, "xtc_threshold": 0.02, "temperature": 1.5, "seed": seed}
    texts = write(loaded, [PROMPT, "x"], max_new_tokens=20, **cut, **given)
    for text, pieces in zip(texts, explain(loaded, texts), strict=True):
        for piece in pieces[len(text.prompt_ids) :]:
            assert math.isfinite(piece.score.processed_logprob)
