"""Beams that are to give more texts than there are, against all texts of a tiny vocabulary."""

import itertools
from typing import Any

import pytest
import torch

from gptft.decoding.batch import batch_context
from gptft.decoding.engine import generate, missing_texts
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import SpecialTokens, special_tokens
from gptft.decoding.strategies import PROCESSORS, STRATEGIES

LETTERS = ("x", "y")
BEAMS = {
    "beam": {},
    "beam_sampling": {},
    "stochastic_beam": {},
    "diverse_beam": {"num_beam_groups": 2, "diversity_penalty": 9.0},
    "constrained_beam": {"force_words": ["x"]},
}


@pytest.fixture
def loaded(model, tokenizer):
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def write(loaded: LoadedModel, prompts: tuple[str, ...] = ("Мороз",), **given: Any) -> list[Any]:
    settings = resolve_settings({"seed": 1, **given})
    return generate(loaded, prompts, settings=settings)


def only(loaded: LoadedModel, *, eos: bool) -> dict[str, Any]:
    """Settings that leave two letters, and EOS perhaps."""
    kept = {i for letter in LETTERS for i in loaded.tokenizer(letter)["input_ids"]}
    assert len(kept) == 2
    return {"suppress_tokens": [i for i in range(300) if i not in kept | ({0} if eos else set())]}


def all_texts(length: int, *, eos: bool) -> set[str]:
    lengths = range(length + 1) if eos else [length]
    return {"".join(text) for n in lengths for text in itertools.product(LETTERS, repeat=n)}


def test_every_strategy_with_beams_is_here():
    assert set(BEAMS) == {name for name, row in STRATEGIES.items() if row.beams}


@pytest.mark.parametrize("name", BEAMS)
@pytest.mark.parametrize(("length", "eos"), [(1, False), (1, True), (2, False), (2, True)])
def test_those_that_are_there_come_once_each(loaded, name, length, eos):
    given = {"num_beams": 8, "num_return_sequences": 8, "max_new_tokens": length}
    texts = write(loaded, strategy=name, **given, **BEAMS[name], **only(loaded, eos=eos))
    found = [text.continuation for text in texts]
    wanted = all_texts(length, eos=eos)
    if name == "constrained_beam":
        wanted = {text for text in wanted if "x" in text}
    assert len(found) == len(set(found))
    # A group looks no further than its own beams.
    assert set(found) <= wanted if name == "diverse_beam" else set(found) == wanted
    settings = texts[0].settings
    assert missing_texts(texts, settings, num_prompts=1) == (
        f"8 texts were asked for, and the beams found {len(found)} that differ."
    )


def test_texts_that_a_stop_string_makes_the_same_count_once(loaded):
    given = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 3}
    texts = write(loaded, **given, stop_strings=["x"], **only(loaded, eos=False))
    assert sorted(text.continuation for text in texts) == ["", "y", "yy", "yyy"]


def test_where_there_are_enough_the_best_are_returned_and_nothing_is_said(loaded):
    given = {"num_beams": 6, "max_new_tokens": 4, "suppress_tokens": [0]}
    texts = write(loaded, ("Мороз", "z"), num_return_sequences=6, **given)
    best = write(loaded, ("Мороз", "z"), num_return_sequences=2, **given)
    first = [text for text in texts if text.prompt == "Мороз"]
    other = [text for text in texts if text.prompt == "z"]
    assert [t.new_ids for t in best] == [t.new_ids for t in (*first[:2], *other[:2])]
    assert missing_texts(best, best[0].settings, num_prompts=2) == ""


# The hardest each cut can be.
HARDEST: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 1}, "top_p": {"top_p": 1e-6}, "min_p": {"min_p": 1.0},
    "top_h": {"top_h": 1e-6}, "typical_p": {"typical_p": 1e-6},
    "epsilon_cutoff": {"epsilon_cutoff": 0.99}, "eta_cutoff": {"eta_cutoff": 0.99},
    "top_n_sigma": {"top_n_sigma": 1e-6}, "top_a": {"top_a": 1.0}, "tfs_z": {"tfs_z": 1e-6},
    "p_less": {"p_less": True},
    "xtc_probability": {"xtc_probability": 1.0, "xtc_threshold": 1e-3, "top_k": 2},
}  # fmt: skip
BENDS = {"temperature", "dynatemp_range", "smoothing_factor"}


def test_every_cut_is_here():
    assert set(HARDEST) == {one.name for one in PROCESSORS if one.is_cut} - BENDS


@pytest.mark.parametrize("name", HARDEST)
@pytest.mark.parametrize("eos", [(), (7,), (7, 8, 9)], ids=len)
def test_no_cut_leaves_less_than_a_beam_needs(model, tokenizer, name, eos):
    """One token besides every EOS, or a beam could only end."""
    bare = LoadedModel(model, tokenizer, SpecialTokens(eos, 0, 0))
    settings = resolve_settings({"strategy": "beam_sampling", **HARDEST[name]})
    cuts = named_processors(settings, batch_context(bare, [[5, 6]], rows=5))
    assert name in dict(cuts)
    torch.manual_seed(0)
    flat = torch.randn(5, 300)
    for logits in (flat, 20 * flat, flat.bfloat16().float(), torch.zeros(5, 300)):
        left = logits
        for _, process in cuts:
            left = process(torch.full((5, 2), 5), left)
        assert ((left > -torch.inf).sum(-1) >= max(len(eos), 1) + 1).all()


@pytest.mark.parametrize("top_h", [1e-6, 0.05])
def test_a_hard_cut_gives_beams_no_empty_texts(loaded, top_h):
    """Two tokens are left to each beam, letters here, and so there are as many texts as beams."""
    letters = {i for letter in "abcdefghijklmno" for i in loaded.tokenizer(letter)["input_ids"]}
    given = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 5, "min_new_tokens": 5}
    others = [i for i in range(300) if i not in letters]
    texts = write(loaded, strategy="beam_sampling", top_h=top_h, suppress_tokens=others, **given)
    assert [len(text.continuation) for text in texts] == [5] * 4
