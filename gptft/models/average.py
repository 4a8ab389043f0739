"""Models of one kind and shape -> one model, with the mean of their weights.

Runs that continue one another, or start from the same model, mostly lie in one basin of the loss,
and the middle of it does better on new text than its rim.

Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization"
(1803.05407); Wortsman et al. 2022, "Model soups" (2203.05482), section 2.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from gptft.models.source import VOLATILE_FIELDS

# Fields that don't decide what the weights compute; dropout doesn't either.
_IGNORED = VOLATILE_FIELDS | {
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
}
_IGNORED_WORDS = ("drop", "summary_")


def average_weights(
    model: PreTrainedModel, others: Iterable[tuple[PreTrainedModel, float]]
) -> None:
    """Give `model` the mean of its own weights and those of `others`.

    Args:
        model: changed in place, and counted as 1; its dtype stays, the mean is made in float32.
        others: with parameters of the same names and shapes, and how much each counts, above 0;
            one is held at a time.
    """
    sums = {name: weight.detach().float().clone() for name, weight in model.named_parameters()}
    total = 1.0
    for other, share in others:
        total += share
        for name, weight in other.named_parameters():
            sums[name].add_(weight.detach(), alpha=share)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(sums[name] / total)


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first field by which two configs make different models of the same weights; or None.

    Args:
        one: a transformers config, by `to_dict`.
        other: the same of another model.

    >>> first_difference({"n_head": 2, "attn_pdrop": 0.1}, {"n_head": 4, "attn_pdrop": 0.0})
    'n_head'
    """
    for field in sorted({*one, *other}):
        counts = field not in _IGNORED and not any(word in field for word in _IGNORED_WORDS)
        if counts and one.get(field) != other.get(field):
            return field
    return None
