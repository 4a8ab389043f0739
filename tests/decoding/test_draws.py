"""What is drawn by a race is what torch draws, and no prompt draws by another's numbers."""

import pytest
import torch

from gptft.decoding.draws import race, uniform


def logits_of(num_rows: int, *, vocab_size: int, seed: int) -> torch.Tensor:
    """Logits of which most are cut away, as before a draw."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(num_rows, vocab_size, generator=generator)
    cut = torch.rand(num_rows, vocab_size, generator=generator) < 0.8
    return logits.masked_fill(cut.index_fill(1, torch.tensor([seed]), False), -torch.inf)


@pytest.mark.parametrize("vocab_size", [7, 1_000, 8_192, 50_257])
@pytest.mark.parametrize("num_rows", [1, 3])
def test_one_prompt_draws_what_multinomial_draws(num_rows: int, vocab_size: int) -> None:
    ids = torch.zeros(num_rows, 1, dtype=torch.long)
    drawn: list[list[int]] = []
    for way in ("torch", "race"):
        torch.manual_seed(4)
        drawn.append([])
        for seed in range(7):
            logits = logits_of(num_rows, vocab_size=vocab_size, seed=seed)
            if way == "torch":
                drawn[-1] += torch.multinomial(logits.softmax(-1), 1)[:, 0].tolist()
            else:
                drawn[-1] += race(1)(ids, logits).argmax(-1).tolist()
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("texts", [1, 3])
def test_each_of_several_prompts_draws_what_it_would_alone(texts: int) -> None:
    prompts, num_prompts = [logits_of(texts, vocab_size=500, seed=n) for n in range(5)], 5
    ids = torch.zeros(num_prompts * texts, 1, dtype=torch.long)
    alone = []
    for logits in prompts:
        torch.manual_seed(8)
        alone += race(1)(ids[:texts], logits).argmax(-1).tolist()
    torch.manual_seed(8)
    together = race(num_prompts)(ids, torch.cat(prompts)).argmax(-1).tolist()
    assert together == alone
    assert len(set(alone)) > 1


def test_a_token_is_drawn_as_often_as_it_is_likely() -> None:
    torch.manual_seed(1)
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05])
    drawn = race(1)(torch.zeros(20_000, 1), probs.log().expand(20_000, 4)).argmax(-1)
    shares = drawn.bincount(minlength=4) / 20_000
    assert shares.tolist() == pytest.approx(probs.tolist(), abs=0.015)  # 4 standard errors


def test_prompts_share_their_numbers_and_texts_of_one_have_their_own() -> None:
    torch.manual_seed(2)
    numbers = uniform(torch.zeros(6, 10), num_prompts=3)
    torch.manual_seed(2)
    assert numbers.tolist() == torch.rand(2, 1).repeat(3, 1).tolist()
    assert numbers[0] != numbers[1]
