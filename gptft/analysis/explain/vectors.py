"""A model's embeddings -> tokens of near vectors, and how the model tells positions apart."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gptft.analysis.explain.capture import ForwardPass
from gptft.analysis.explain.explanation import Positions, Shuffled
from gptft.analysis.explain.values import Candidate, NamedToken, Neighbour, RandomLikeness
from gptft.models.anatomy import read_anatomy
from gptft.models.headers import Tensor as StoredTensor

_NEIGHBOURS = 5
_MOST_PLACES = 64  # that are compared
_SHUFFLES = 8
_RANDOM_PAIRS = 4_000
_WORD = re.compile(r"\S+")


@torch.no_grad()
def neighbours_of(
    model: PreTrainedModel, ids: Sequence[int], *, known: int, name: Callable[[int], NamedToken]
) -> list[tuple[tuple[Neighbour, ...], float]]:
    """For each id the tokens of the nearest vectors, and the length of its own.

    Args:
        model: with an embedding of shape (V, C).
        ids: of tokens.
        known: ids from here on have no token, and are left out.
        name: gives a token of an id.
    """
    weight: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    table = weight[:known].float()  # (V, C)
    norms = table.norm(dim=-1).clamp_min(1e-12)
    unique = sorted(set(ids))
    likeness = (table[unique] @ table.T) / norms[unique, None] / norms  # (n, V)
    likeness[torch.arange(len(unique)), unique] = -torch.inf
    best, nearest = likeness.topk(min(_NEIGHBOURS, known - 1), dim=-1)
    by_id = {
        i: tuple(
            Neighbour(name(int(other)), float(value))
            for other, value in zip(others, values, strict=True)
        )
        for i, others, values in zip(unique, nearest.tolist(), best.tolist(), strict=True)
    }
    return [(by_id[i], float(norms[i])) for i in ids]


@torch.no_grad()
def random_likeness(model: PreTrainedModel, *, known: int) -> RandomLikeness:
    """The cosines of tokens taken at random: their mean, and what one in a hundred exceeds.

    Args:
        model: with an embedding of shape (V, C).
        known: ids from here on have no token, and are left out.
    """
    weight: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(known, (2, _RANDOM_PAIRS), generator=generator)
    one, other = (weight[ids[pairs[0] != pairs[1]]].float() for ids in pairs)
    found = torch.nn.functional.cosine_similarity(one, other)
    return RandomLikeness(float(found.mean()), float(found.quantile(0.99)))


def positions_of(
    model: PreTrainedModel, passed: ForwardPass, shuffled: Shuffled | None
) -> Positions:
    """How a model knows where a token stands; see `Positions`."""
    stored = model.config.to_dict()
    names = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    tensors = {name: StoredTensor(shape, None) for name, shape in names.items()}
    kind = read_anatomy(stored, tensors).positions
    places, likeness = _likeness(passed)
    return Positions(kind, places, likeness, _turns(model), shuffled)


def _likeness(passed: ForwardPass) -> tuple[tuple[int, ...], np.ndarray | None]:
    """How like the learned vectors of positions are, shape (n, n), evenly spread over all."""
    length = len(passed.token_ids)
    for embedding, made in passed.other_embeddings:
        table = embedding.weight.detach().float()
        (starts,) = (table == made[0]).all(-1).nonzero(as_tuple=True)
        first = next((at for at in starts.tolist() if _is_run(table, made, at)), None)
        if first is not None and len(made) == length > 1:
            table = table[first:]
            chosen = np.unique(np.linspace(0, len(table) - 1, _MOST_PLACES).round().astype(int))
            vectors = torch.nn.functional.normalize(table[torch.from_numpy(chosen)], dim=-1)
            return tuple(chosen.tolist()), (vectors @ vectors.T).cpu().numpy()
    return (), None


def _is_run(table: Tensor, made: Tensor, first: int) -> bool:
    """Whether an embedding gave its rows from `first` on, one after another."""
    return torch.equal(table[first : first + len(made)], made)


def _turns(model: PreTrainedModel) -> np.ndarray | None:
    """By pair of a head's numbers, the radians that rotary positions turn it by a token."""
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and buffer.dim() == 1 and len(buffer):
            return buffer.detach().float().cpu().numpy()
    return None


def shuffled_texts(prompt: str) -> list[str]:
    """The prompt with its words in other orders, white space where it was.

    Returns:
        none where there are fewer than three words.

    >>> shuffled_texts("a b")
    []
    >>> [sorted(text.split()) for text in shuffled_texts("one two  three")][0]
    ['one', 'three', 'two']
    """
    words = _WORD.findall(prompt)
    if len(words) < 3:
        return []
    rng, found = Random(0), []
    for _ in range(_SHUFFLES):
        order = words[:]
        while order == words and len(set(words)) > 1:
            rng.shuffle(order)
        gaps = _WORD.split(prompt)
        found.append("".join(map("".join, zip_longest(gaps, order, fillvalue=""))))
    return found


def mean_bits(logits: Tensor, ids: Sequence[int], *, start: int) -> float:
    """-log2 p of the tokens from `start` on, on average.

    Args:
        logits: shape (T, V).
        ids: T tokens.
        start: the first that counts, >= 1.
    """
    if start >= len(ids):
        return math.nan
    targets = torch.tensor(list(ids[start:]), device=logits.device)
    losses = torch.nn.functional.cross_entropy(logits[start - 1 : -1], targets)
    return float(losses) / math.log(2)


def candidates(
    logits: Tensor, *, at_most: int, name: Callable[[int], NamedToken]
) -> tuple[Candidate, ...]:
    """The likeliest tokens of logits (V,), likeliest first."""
    best, ids = logits.softmax(-1).topk(min(at_most, len(logits)))
    found: Any = zip(ids.tolist(), best.tolist(), strict=True)
    return tuple(Candidate(name(int(i)), float(p)) for i, p in found)
