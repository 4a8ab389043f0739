"""Forward passes of a tuned model and of its base over one prompt -> where they part."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gptft.analysis.explain.capture import ForwardPass
from gptft.analysis.explain.explanation import BaseComparison, ChangedToken
from gptft.analysis.explain.heads import attentions_of
from gptft.analysis.explain.lens import lens_of, lens_rows
from gptft.analysis.explain.values import NamedToken
from gptft.analysis.explain.vectors import mean_bits
from gptft.decoding.early_exit import decoder_layers
from gptft.errors import ModelError

_SHOWN = 12  # tokens that gained, and that lost


@torch.no_grad()
def compare_with_base(
    tuned: tuple[PreTrainedModel, ForwardPass],
    base: tuple[PreTrainedModel, ForwardPass],
    *,
    base_name: str,
    ids: Sequence[int],
    start: int,
    name: Callable[[int], NamedToken],
) -> BaseComparison:
    """Where a tuned model and its base part, of one vocabulary, over the same tokens.

    Args:
        tuned: the model, and its pass over `ids`.
        base: the same of its base.
        base_name: what a person calls it.
        ids: T tokens.
        start: the first of them that is text, not BOS.
        name: gives a token of an id.
    """
    ours, theirs = tuned[1], base[1]
    first = max(start, 1)
    num_ids = min(ours.logits.shape[-1], theirs.logits.shape[-1])
    after, before = (one.logits[-1, :num_ids].double().softmax(-1) for one in (ours, theirs))
    change = after - before
    return BaseComparison(
        base=base_name,
        lens=lens_of(theirs, name),
        lens_bits=_apart(ours, theirs, num_ids=num_ids),
        heads=_heads_apart(attentions_of(ours), attentions_of(theirs)),
        weights=_weights_apart(tuned[0], base[0]),
        gained=_changed(change, before, after, name=name, sign=1),
        lost=_changed(change, before, after, name=name, sign=-1),
        bits=mean_bits(theirs.logits, ids, start=first),
        tuned_bits=mean_bits(ours.logits, ids, start=first),
    )


def _apart(ours: ForwardPass, theirs: ForwardPass, *, num_ids: int) -> np.ndarray | None:
    """Kullback-Leibler divergence of our lens from theirs in bits, shape (L + 1, T)."""
    if len(ours.layers) != len(theirs.layers):
        return None
    rows = []
    for one, other in zip(lens_rows(ours), lens_rows(theirs), strict=False):
        own, base = one[:, :num_ids].double(), other[:, :num_ids].double()
        divergence = (own.exp() * (own - base)).sum(-1) / math.log(2)
        rows.append(divergence.clamp_min(0.0).cpu().numpy())
    return np.stack(rows) if len(rows) > len(ours.layers) else None


def _heads_apart(ours: np.ndarray | None, theirs: np.ndarray | None) -> np.ndarray | None:
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return None
    found: np.ndarray = np.abs(ours - theirs).sum(-1).mean(-1) / 2
    return found


def _weights_apart(ours: PreTrainedModel, theirs: PreTrainedModel) -> tuple[float, ...]:
    """By layer, the norm of the change of its weights by the norm of the base's."""
    try:
        layers, others = decoder_layers(ours)[2], decoder_layers(theirs)[2]
    except ModelError:
        return ()
    found = []
    for layer, other in zip(layers, others, strict=False):
        own, base = dict(layer.named_parameters()), dict(other.named_parameters())
        shared = [n for n in own if n in base and own[n].shape == base[n].shape]
        changed = sum(float((own[n].float() - base[n].float()).square().sum()) for n in shared)
        total = sum(float(base[n].float().square().sum()) for n in shared)
        found.append(math.sqrt(changed / total) if total else 0.0)
    return tuple(found)


def _changed(
    change: Tensor, before: Tensor, after: Tensor, *, name: Callable[[int], NamedToken], sign: int
) -> tuple[ChangedToken, ...]:
    most, ids = (change * sign).topk(min(_SHOWN, len(change)))
    return tuple(
        ChangedToken(name(int(i)), float(before[i]), float(after[i]))
        for i, by in zip(ids.tolist(), most.tolist(), strict=True)
        if by > 0
    )
