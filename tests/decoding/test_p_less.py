"""p-less on numbers worked by hand, and against the paper's statement in NumPy."""

import math

import numpy as np
import pytest
import torch

from gptft.decoding.define import cut_by
from gptft.decoding.strategies import choose_strategy
from gptft.decoding.strategies.p_less import p_less_keeps


def kept(probs, **settings):
    logits = torch.tensor([[math.log(p) if p else -math.inf for p in probs]])
    after = cut_by(p_less_keeps, **settings)(torch.zeros(1, 1), logits)
    return [i for i, score in enumerate(after[0].tolist()) if score > -math.inf]


def test_by_hand():
    # 0.25 + 0.09 + 0.0225 + 0.0025 = 0.365, normalized (4 * 0.365 - 1) / 3 = 0.1533
    assert kept([0.5, 0.3, 0.15, 0.05]) == [0]
    assert kept([0.5, 0.3, 0.15, 0.05], p_less_norm=True) == [0, 1]
    # 0.16 + 0.09 + 0.04 + 0.01 = 0.3: a token as likely as that is kept
    assert kept([0.4, 0.31, 0.2, 0.09]) == [0, 1]
    # the sure model: 0.9409 + ... is above all but the likeliest
    assert kept([0.97, 0.01, 0.01, 0.01]) == [0]


def test_a_removed_token_does_not_count():
    # (3 * 0.365 - 1) / 2 = 0.0475 would be that of the three alone with 0.05 gone
    assert kept([0.5, 0.3, 0.2, 0.0], p_less_norm=True) == [0, 1, 2]  # (3 * 0.38 - 1) / 2 = 0.07
    assert kept([0.5, 0.3, 0.2, 0.0]) == [0]


@pytest.mark.parametrize("norm", [False, True])
def test_the_only_token_left_and_the_least_number_stay(norm):
    assert kept([0.0, 1.0, 0.0, 0.0], p_less_norm=norm) == [1]
    assert kept([0.97, 0.02, 0.01], p_less_norm=norm, min_tokens_to_keep=2) == [0, 1]


@pytest.mark.parametrize("num_ids", [2, 3, 7, 300, 50257])
@pytest.mark.parametrize("norm", [False, True])
def test_equally_likely_tokens_all_stay(num_ids, norm):
    assert p_less_keeps(torch.full((1, num_ids), 1.7), p_less_norm=norm).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("norm", [False, True])
def test_formula(seed, norm):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 50)) * rng.uniform(0.2, 5)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    threshold = np.square(probs).sum(-1, keepdims=True)
    if norm:
        threshold = (50 * threshold - 1) / 49
    found = p_less_keeps(torch.tensor(logits), p_less_norm=norm)
    assert found.tolist() == (probs >= threshold).tolist()
    assert found.any(-1).all()


def test_it_is_asked_for_by_its_setting_alone_and_named_after_the_rarest_cut():
    assert choose_strategy({"p_less": True}) == "p_less"
    assert choose_strategy({"p_less": True, "top_p": 0.9}) == "p_less"
    assert choose_strategy({"p_less": False}) == "temperature"
