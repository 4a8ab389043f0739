"""Models of one kind and shape -> one model, with the mean of their weights.

Runs that continue one another, or start from the same model, mostly lie in one basin of the loss,
and the middle of it does better on new text than its rim.

Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization"
(1803.05407); Wortsman et al. 2022, "Model soups" (2203.05482), section 2.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models.hub import find_model
from gptft.models.source import VOLATILE_FIELDS, expand_models

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Fields that don't decide what the weights compute; dropout doesn't either.
_IGNORED = VOLATILE_FIELDS | {
    "architectures", "bos_token_id", "eos_token_id", "initializer_range", "pad_token_id",
}  # fmt: skip
_IGNORED_WORDS = ("drop", "summary_")


def check_average(model: ModelConfig) -> None:
    """Refuse models to be averaged that aren't there, or have other sizes or other tokens.

    A folder without a tokenizer, such as a checkpoint, is taken for what it is named as.

    Raises:
        ModelError: as said.
    """
    names = dict.fromkeys(expand_models(one.name for one in model.average_with))
    if not names:
        return
    base = find_model(model.name, revision=model.revision, with_weights=False)
    here = base.tokenizer.vocabulary
    for name in names:
        files = find_model(name, with_weights=False)
        both = base.config.keys() & files.config.keys()  # a field that is left out has its default
        own, other = (
            {field: config[field] for field in both} for config in (base.config, files.config)
        )
        check_alike(own, other, name=name, of=model.name)
        there = files.tokenizer.vocabulary
        if there and there != here:
            _, token = min((place, text) for text, place in there.items() ^ here.items())
            raise ModelError(
                f"{name} can't be averaged with {model.name}: its tokenizer is another one, "
                f"{token!r} is {_place(there, token)} there and {_place(here, token)} here. "
                "Leave it out of model.average_with."
            )


def _place(vocabulary: Mapping[str, int], token: str) -> str:
    return f"id {vocabulary[token]:,}" if token in vocabulary else "no token"


def check_alike(here: Mapping[str, Any], there: Mapping[str, Any], *, name: str, of: str) -> None:
    """Refuse a model that computes something else with weights of the same names.

    Args:
        here: a transformers config, by `to_dict`.
        there: that of the model to be averaged with it.
        name: what a message calls the latter.
        of: and the former.

    Raises:
        ModelError: it does.
    """
    if field := first_difference(here, there):
        raise ModelError(
            f"{name} can't be averaged with {of}: {field} is {there.get(field)} there and "
            f"{here.get(field)} here. Leave it out of model.average_with."
        )


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


def average_weights(
    model: "PreTrainedModel", others: Iterable[tuple[str, "PreTrainedModel", float]], *, name: str
) -> None:
    """Give `model` the mean of its own weights and those of `others`.

    Args:
        model: changed in place, and counted as 1; its dtype stays, the mean is made in float32.
        others: their names, each with parameters of the same names and shapes, and how much each
            counts, above 0; one is held at a time.
        name: what a message calls `model`.

    Raises:
        ModelError: one has other parameters, which an adapter may bring.
    """
    import torch

    sums = {name: weight.detach().float().clone() for name, weight in model.named_parameters()}
    total = 1.0
    for called, other, share in others:
        _require_same(model, other, name=called, of=name)
        total += share
        for name, weight in other.named_parameters():
            sums[name].add_(weight.detach(), alpha=share)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(sums[name] / total)


def _require_same(
    model: "PreTrainedModel", other: "PreTrainedModel", *, name: str, of: str
) -> None:
    here, there = (
        {name: tuple(weight.shape) for name, weight in one.named_parameters()}
        for one in (model, other)
    )
    if different := sorted(dict(here.items() ^ there.items())):
        first = different[0]
        raise ModelError(
            f"{name} can't be averaged with {of}: {first} is {there.get(first, 'missing')} there "
            f"and {here.get(first, 'missing')} here. Leave it out of model.average_with."
        )
