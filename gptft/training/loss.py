"""Logits and labels -> the causal loss, and its gradient in the same pass.

The value is the stock function's, in less time and memory: there is no copy of all logits in
float32, and on a CPU the rows at work fit its cache.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutput

from gptft.config.training_needs import UNSCALED
from gptft.errors import ModelError
from gptft.models.training_memory import LOGITS_ROWS
from gptft.training.head import DeferredHead
from gptft.training.unlikelihood import Unlikelihood, UnwantedTokens

_LOGITS_ON_CPU = 2**21  # at a time: 8 MiB as float32, which stay in a cache
_LOGITS_ELSEWHERE = 2**27  # enough for an accelerator to be busy
# Rows of logits that are made at a time of a deferred output layer. Fewer cost time: the gradient
# of the layer's weights, as large as the layer, is gone through each time (docs/experiments.md).
_ROWS_ON_CPU, _ROWS_ELSEWHERE = LOGITS_ROWS, 2048


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy over a divisor; the gradient is made with the loss, while it is near."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        targets: torch.Tensor,
        divisor: torch.Tensor,
        ignored: int,
        unwanted: UnwantedTokens | None,
    ) -> torch.Tensor:
        """Scalar, float32, from logits of shape (N, V) and targets of shape (N,)."""
        wants_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(logits) if wants_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        for rows in _chunks(logits):
            part = logits[rows].to(torch.float32, copy=True)  # (rows, V)
            total += _sum_of_rows(part, targets, rows, divisor, ignored, unwanted, wants_gradient)
            if gradient is not None:
                gradient[rows] = part
        ctx.save_for_backward(gradient)
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient that is there already, times the one from outside."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None, None


class _CrossEntropyOfHead(torch.autograd.Function):
    """The same of hidden states and the layer that makes logits of them, some rows at a time.

    Gradients of both are made with the loss, so that no row of logits is ever kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        divisor: torch.Tensor,
        ignored: int,
        unwanted: UnwantedTokens | None,
    ) -> torch.Tensor:
        """Scalar, float32, from hidden states (N, C), a weight (V, C), targets of shape (N,)."""
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        wants_gradient = wants_hidden or wants_weight or wants_bias
        device = hidden.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else weight.dtype
        at_once = rows_at_once(device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        of_hidden = torch.empty_like(hidden) if wants_hidden else None
        of_weight = None
        of_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
        with torch.autocast(device, enabled=False):
            matrix, states = weight.to(dtype), hidden.to(dtype)
            offset = None if bias is None else bias.to(dtype)
            for start in range(0, len(states), at_once):
                few = states[start : start + at_once]
                raw = torch.nn.functional.linear(few, matrix, offset)  # (rows, V)
                part = raw if raw.dtype == torch.float32 else raw.float()
                for rows in _chunks(part):
                    here = slice(start + rows.start, start + rows.stop)
                    total += _sum_of_rows(
                        part[rows], targets, here, divisor, ignored, unwanted, wants_gradient
                    )
                if not wants_gradient:
                    continue
                slope = part if part is raw else raw.copy_(part)
                if of_hidden is not None:
                    of_hidden[start : start + at_once] = slope @ matrix
                if wants_weight and of_weight is None:
                    of_weight = (slope.T @ few).to(weight.dtype)
                elif of_weight is not None and of_weight.dtype == slope.dtype:
                    of_weight.addmm_(slope.T, few)
                elif of_weight is not None:
                    of_weight += slope.T @ few
                if of_bias is not None:
                    of_bias += part.sum(dim=0)
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients that are there already, times the one from outside."""
        factor = outer[0]
        is_one = factor.device.type == "cpu" and bool(factor == 1.0)
        gradients = (
            one if one is None or is_one else one.mul_(factor.to(one.dtype))
            for one in ctx.saved_tensors
        )
        return (*gradients, None, None, None, None)


def rows_at_once(device: str) -> int:
    """How many rows of logits a deferred output layer makes at a time, on cpu or elsewhere."""
    return _ROWS_ON_CPU if device == "cpu" else _ROWS_ELSEWHERE


def _chunks(logits: torch.Tensor) -> Iterator[slice]:
    """The rows of logits, (N, V), so many at a time that they stay in a cache."""
    at_once = _LOGITS_ON_CPU if logits.device.type == "cpu" else _LOGITS_ELSEWHERE
    rows = max(1, at_once // logits.shape[1])
    for start in range(0, len(logits), rows):
        yield slice(start, min(start + rows, len(logits)))


def _sum_of_rows(
    part: torch.Tensor,
    targets: torch.Tensor,
    rows: slice,
    divisor: torch.Tensor,
    ignored: int,
    unwanted: UnwantedTokens | None,
    wants_gradient: bool,
) -> torch.Tensor:
    """The summed loss of some rows of logits, float32, which become its gradient if that is wanted.

    Args:
        part: shape (rows, V); overwritten.
        targets: of all rows, shape (N,).
        rows: which of them these are.
        divisor: of the gradient.
        ignored: the target that isn't predicted.
        unwanted: tokens to be made less likely.
        wants_gradient: whether there is to be one.
    """
    is_predicted = targets[rows] != ignored
    wanted = targets[rows].where(is_predicted, 0)[:, None]
    normalizer = part.logsumexp(dim=1, keepdim=True)
    losses = normalizer - part.gather(1, wanted)
    total = losses[:, 0].where(is_predicted, 0).sum()
    if not wants_gradient and unwanted is None:
        return total
    part.sub_(normalizer).exp_()  # probabilities
    if unwanted is not None:
        total = total + unwanted.add_to(part, start=rows.start)
    if wants_gradient:
        part.scatter_add_(1, wanted, -torch.ones_like(normalizer))
        part.mul_(is_predicted[:, None] / divisor)
    return total


def causal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: torch.Tensor | None = None,
    *,
    unlikelihood: Unlikelihood | None = None,
    head: DeferredHead | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """What transformers' `ForCausalLMLoss` gives, with its arguments.

    Args:
        logits: shape (B, T, V), float32 or bfloat16; hidden states, (B, T, C), where `head` is
            deferred.
        labels: int64 of shape (B, T): the tokens themselves; logits at t are for label t + 1.
        vocab_size: V.
        num_items_in_batch: what the sum is divided by; the predicted tokens where None.
        ignore_index: the label that isn't predicted.
        shift_labels: labels moved by one already.
        unlikelihood: of repetitions among the predicted tokens, added to the sum.
        head: the output layer, which may be deferred.
        kwargs: of `cross_entropy`; then, and in float16, whose gradients a scaler has to lift
            before they are rounded, the stock function is used.

    Raises:
        ModelError: an unlikelihood, and the stock function has to be used.
    """
    is_deferred = head is not None and head.is_deferred
    if kwargs or logits.dtype == torch.float16:
        if head is not None and is_deferred:
            logits = head.logits(logits)
        if unlikelihood is not None:
            raise ModelError(UNSCALED)
        divisor: Any = num_items_in_batch
        return ForCausalLMLoss(
            logits, labels, vocab_size, divisor, ignore_index, shift_labels, **kwargs
        )
    if shift_labels is None:
        shift_labels = pad(labels, (0, 1), value=ignore_index)[..., 1:]
    shift_labels = shift_labels.to(logits.device)
    targets = shift_labels.reshape(-1)
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum()
    divisor = torch.as_tensor(num_items_in_batch, dtype=torch.float32, device=logits.device)
    unwanted = None
    if unlikelihood is not None:
        unwanted = unlikelihood.unwanted(shift_labels, ignored=ignore_index)
    rows = logits.reshape(-1, logits.shape[-1])
    if head is not None and is_deferred:
        return _loss_of_head(rows, head, targets, divisor, ignore_index, unwanted)
    loss: torch.Tensor = _CrossEntropy.apply(rows, targets, divisor, ignore_index, unwanted)  # type: ignore[no-untyped-call]
    return loss


def _loss_of_head(
    hidden: torch.Tensor,
    head: DeferredHead,
    targets: torch.Tensor,
    divisor: torch.Tensor,
    ignored: int,
    unwanted: UnwantedTokens | None,
) -> torch.Tensor:
    """The loss of hidden states, (N, C), of which those are left out that predict nothing."""
    if unwanted is None and hidden.device.type == "cpu":  # elsewhere one would have to wait
        places = (targets != ignored).nonzero()[:, 0]
        if len(places) < len(targets):
            hidden, targets = hidden[places], targets[places]
    loss: torch.Tensor = _CrossEntropyOfHead.apply(  # type: ignore[no-untyped-call]
        hidden, head.layer.weight, head.layer.bias, targets, divisor, ignored, unwanted
    )
    return loss


def loss_of_output(
    output: CausalLMOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    *,
    unlikelihood: Unlikelihood | None = None,
) -> torch.Tensor:
    """`causal_loss` of what a model without labels gives: the Trainer's `compute_loss_func`."""
    logits: torch.Tensor = output.logits  # type: ignore[assignment]
    vocab_size = logits.shape[-1]
    return causal_loss(logits, labels, vocab_size, num_items_in_batch, unlikelihood=unlikelihood)


def use_fast_loss(model: PreTrainedModel, *, unlikelihood: Unlikelihood | None = None) -> bool:
    """Let `model` compute its loss by `causal_loss`, where its own is the stock function.

    A class whose name tells transformers of no loss (GPT2LMHeadModel, 5.23) has the stock one.

    Returns:
        whether it does.

    Raises:
        ModelError: an unlikelihood, and the model has a loss of its own.
    """
    if getattr(model, "loss_type", None) is None:
        model.loss_type = "ForCausalLM"
    if model.loss_function is ForCausalLMLoss:
        model.loss_function = (
            causal_loss if unlikelihood is None else partial(causal_loss, unlikelihood=unlikelihood)
        )
        return True
    if unlikelihood is not None:
        raise ModelError(
            f"training.unlikelihood_weight: {model.config.model_type} computes a loss of its own, "
            "to which nothing can be added. Leave it out."
        )
    return False
