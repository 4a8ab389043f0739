"""Logits of several prompts -> draws of each that it would get alone, from the same seed.

`torch.multinomial` draws one token as the argmax of p / q, with q exponentially distributed
(torch 2.13, `multinomial_out`), and `generate` would give it all rows at once: what a prompt got
would depend on the prompts beside it. Each prompt begins from the same seed and takes as many
numbers a step, so that all of them take the same numbers, drawn here once.
"""

import torch
from torch import Tensor

from gptft.decoding.define import Process


def race(num_prompts: int) -> Process:
    """A processor whose argmax is a draw: it makes p / q of logits, to be taken greedily.

    Args:
        num_prompts: B; with R texts each there are B x R rows, those of a prompt together.

    Source: the exponential race; a draw of p is the first of events of rates p to arrive.
    """

    def process(input_ids: Tensor, scores: Tensor) -> Tensor:
        probs = scores.softmax(dim=-1).view(num_prompts, -1, scores.shape[-1])  # (B, R, V)
        arrivals = torch.empty_like(probs[0]).exponential_()  # (R, V)
        return (probs / arrivals).view_as(scores)

    return process


def replayed(process: Process, *, num_texts: int, place: int) -> Process:
    """A processor of one row that takes the numbers which `process` took for one of several texts.

    Args:
        process: of all texts of a prompt; it draws.
        num_texts: R, drawn at once.
        place: the text's among them.
    """

    def one(input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = process(input_ids.expand(num_texts, -1), scores.repeat(num_texts, 1))  # (R, V)
        torch.empty_like(rows).exponential_()  # by which the tokens were drawn then
        return rows[place : place + 1]

    return one


def uniform(scores: Tensor, *, num_prompts: int) -> Tensor:
    """A number from 0 to 1 for each row of logits (B x R, V), shape (B x R, 1), alike for prompts.

    Args:
        scores: those of a prompt together.
        num_prompts: B.
    """
    return torch.rand(len(scores) // num_prompts, 1, device=scores.device).repeat(num_prompts, 1)
