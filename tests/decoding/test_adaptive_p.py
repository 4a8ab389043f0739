"""Adaptive-p on numbers worked by hand, and against llama.cpp's algorithm one row at a time."""

import math

import numpy as np
import pytest
import torch

from gptft.decoding.settings import resolve_settings
from gptft.decoding.strategies import choose_strategy
from gptft.decoding.strategies.adaptive_p import AdaptivePWarper, near_target
from gptft.errors import ConfigError

PROBS = (0.5, 0.3, 0.15, 0.05)


def logits_of(*rows):
    return torch.tensor([[math.log(p) if p else -math.inf for p in row] for row in rows])


def transformed(prob, target):
    distance = abs(prob - target) / 0.3
    return 5 - 10 * distance**2 / (1 + distance)


def test_the_first_step_is_aimed_at_the_target_itself():
    warper = AdaptivePWarper(adaptive_target=0.3, adaptive_decay=0.9)
    # d of 0.5: 2/3, 10 * 4/9 / (5/3) = 2.6667; of 0.15: 1/2, 1.6667; of 0.05: 5/6, 3.7879
    wanted = torch.tensor([[2.3333, 5.0, 3.3333, 1.2121]])
    torch.testing.assert_close(
        warper(torch.tensor([[7]]), logits_of(PROBS)), wanted, atol=1e-4, rtol=0
    )


def test_the_target_moves_against_what_was_drawn():
    warper = AdaptivePWarper(adaptive_target=0.3, adaptive_decay=0.5)
    warper(torch.tensor([[7]]), logits_of(PROBS))
    # drawn was token 0 of 0.5: sum 0.5 + 0.5 * 0.6 = 0.8, weight 1 + 0.5 * 2 = 2, mean 0.4
    after = warper(torch.tensor([[7, 0]]), logits_of(PROBS))
    wanted = torch.tensor([[transformed(p, 0.2) for p in PROBS]])
    torch.testing.assert_close(after, wanted)
    # then token 3 of 0.05: sum 0.05 + 0.4 = 0.45, mean 0.225, target 0.375
    after = warper(torch.tensor([[7, 0, 3]]), logits_of(PROBS))
    torch.testing.assert_close(after, torch.tensor([[transformed(p, 0.375) for p in PROBS]]))


def test_the_target_stays_between_0_and_1():
    for target, drawn, limit in ((0.1, 0, 0.0), (0.9, 3, 1.0)):
        warper = AdaptivePWarper(adaptive_target=target, adaptive_decay=0.0)
        warper(torch.tensor([[7]]), logits_of(PROBS))
        after = warper(torch.tensor([[7, drawn]]), logits_of(PROBS))
        torch.testing.assert_close(after, torch.tensor([[transformed(p, limit) for p in PROBS]]))


def test_a_new_text_starts_anew_and_removed_tokens_stay_so():
    warper = AdaptivePWarper(adaptive_target=0.3, adaptive_decay=0.9)
    first = warper(torch.tensor([[7]]), logits_of(PROBS))
    warper(torch.tensor([[7, 0]]), logits_of(PROBS))
    assert torch.equal(warper(torch.tensor([[8]]), logits_of(PROBS)), first)
    after = near_target(logits_of((0.7, 0.3, 0.0)), torch.tensor([[0.0]]))
    assert after.isinf().tolist() == [[False, False, True]]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_steered_as_llama_cpp_steers_one(seed):
    rng = np.random.default_rng(seed)
    target, decay, num_rows = rng.uniform(), rng.uniform(0, 0.99), 3
    warper = AdaptivePWarper(adaptive_target=target, adaptive_decay=decay)
    sums, weights = [target / (1 - decay)] * num_rows, [1 / (1 - decay)] * num_rows
    ids = torch.zeros(num_rows, 1, dtype=torch.long)
    for _ in range(12):
        logits = rng.normal(size=(num_rows, 9)) * 2
        found = warper(ids, torch.tensor(logits, dtype=torch.float32))
        tokens = rng.integers(0, 9, size=num_rows)
        for row in range(num_rows):
            probs = np.exp(logits[row]) / np.exp(logits[row]).sum()
            aimed = min(max(2 * target - sums[row] / weights[row], 0), 1)
            wanted = [transformed(p, aimed) for p in probs]
            np.testing.assert_allclose(found[row].numpy(), wanted, atol=1e-3)
            sums[row] = probs[tokens[row]] + decay * sums[row]
            weights[row] = 1 + decay * weights[row]
        ids = torch.cat([ids, torch.tensor(tokens)[:, None]], dim=1)


def test_a_higher_target_draws_likelier_tokens():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(400, 50, generator=generator) * 3
    means = []
    for target in (0.1, 0.4, 0.7):
        warper = AdaptivePWarper(adaptive_target=target, adaptive_decay=0.9)
        ids, drawn = torch.zeros(1, 1, dtype=torch.long), []
        for row in logits:
            probs = warper(ids, row[None]).softmax(-1)
            token = torch.multinomial(probs, 1, generator=generator)
            drawn.append(float(row.softmax(-1)[token]))
            ids = torch.cat([ids, token], dim=1)
        means.append(np.mean(drawn))
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_it_is_asked_for_by_its_target_and_refuses_beams():
    assert choose_strategy({"adaptive_target": 0.4, "min_p": 0.1}) == "adaptive_p"
    with pytest.raises(ConfigError, match="num_beams is 3, and adaptive_p doesn't use it"):
        resolve_settings({"strategy": "adaptive_p", "num_beams": 3})
