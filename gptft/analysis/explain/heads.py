"""Attention on a random sequence that comes twice -> what each head does, by name.

Tokens drawn at random have no meaning, so a head can only go by place, or by what stood there the
first time: an induction head looks at what followed the same token before. Source: Olsson et al.
2022, "In-context Learning and Induction Heads" (2209.11895), section "Per-Token".
"""

from collections.abc import Sequence
from random import Random

import numpy as np
from transformers import PreTrainedModel

from gptft.analysis.explain.capture import ForwardPass, forward_pass
from gptft.analysis.explain.explanation import NAMED_FROM, Head, HeadName
from gptft.models.load import context_of

_LENGTH = 25  # tokens that come twice
_SEQUENCES = 4  # that scores are averaged over


def attentions_of(passed: ForwardPass) -> np.ndarray | None:
    """The weights of all layers, shape (L, H, T, T); None where a layer gives none.

    Layers with fewer heads than others have heads of zeros behind their own.
    """
    given = [layer.attention.weights for layer in passed.layers if layer.attention is not None]
    length = len(passed.token_ids)
    if not given or any(one.shape[1:] != (length, length) for one in given):
        return None
    widest = max(len(one) for one in given)
    found = np.zeros((len(passed.layers), widest, length, length), dtype=np.float32)
    for number, layer in enumerate(passed.layers):
        if layer.attention is not None:
            weights = layer.attention.weights.cpu().numpy()
            found[number, : len(weights)] = weights
    return found


def name_heads(
    model: PreTrainedModel, ordinary_ids: Sequence[int], *, before: Sequence[int]
) -> tuple[Head, ...]:
    """Name every head of a model by what it looks at in sequences that repeat.

    Args:
        model: a causal one, in eval mode.
        ordinary_ids: of tokens that are text, to draw from.
        before: what stands before any text, BOS.
    """
    context = context_of(model)
    room = _LENGTH if context is None else (context - len(before)) // 2
    length = min(_LENGTH, room, len(ordinary_ids))
    if length < 4:
        return ()
    rng = Random(0)
    totals: dict[HeadName, np.ndarray] = {}
    for _ in range(_SEQUENCES):
        drawn = rng.sample(list(ordinary_ids), length)
        passed = forward_pass(model, [*before, *drawn, *drawn])
        weights = attentions_of(passed)
        if weights is None:
            return ()
        for name, score in head_scores(weights, length=length, start=len(before)).items():
            totals[name] = totals.get(name, 0.0) + score / _SEQUENCES
    any_score = next(iter(totals.values()))
    return tuple(
        _head(layer, head, {name: float(score[layer, head]) for name, score in totals.items()})
        for layer, head in np.ndindex(any_score.shape)
    )


def head_scores(weights: np.ndarray, *, length: int, start: int) -> dict[HeadName, np.ndarray]:
    """The share of each head's weight that goes to places of a kind, shape (L, H) each.

    Asked are the tokens of the second time, but its first, which follows nothing that was seen.

    Args:
        weights: shape (L, H, T, T).
        length: tokens that come twice.
        start: tokens before them.
    """
    asking = np.arange(start + length + 1, start + 2 * length)

    def share(places: np.ndarray) -> np.ndarray:
        found: np.ndarray = weights[:, :, asking, places].mean(-1)
        return found

    return {
        "previous token": share(asking - 1),
        "first token": share(np.zeros_like(asking)),
        "itself": share(asking),
        "induction": share(asking - length + 1),
        "same token": share(asking - length),
    }


def _head(layer: int, head: int, scores: dict[HeadName, float]) -> Head:
    best = max(scores, key=lambda name: scores[name])
    return Head(layer, head, best if scores[best] >= NAMED_FROM else "mixed", scores)
