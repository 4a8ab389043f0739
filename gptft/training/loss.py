"""Logits and labels -> the causal loss, and its gradient in the same pass.

The value is the stock function's, in less time and memory: there is no copy of all logits in
float32, and on a CPU the rows at work fit its cache.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutput

from gptft.config.training_needs import UNSCALED
from gptft.errors import ModelError
from gptft.training.unlikelihood import Unlikelihood, UnwantedTokens

_LOGITS_ON_CPU = 2**21  # at a time: 8 MiB as float32, which stay in a cache
_LOGITS_ELSEWHERE = 2**27  # enough for an accelerator to be busy


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
        at_once = _LOGITS_ON_CPU if logits.device.type == "cpu" else _LOGITS_ELSEWHERE
        rows = max(1, at_once // logits.shape[1])
        wants_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(logits) if wants_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        for start in range(0, len(logits), rows):
            part = logits[start : start + rows].to(torch.float32, copy=True)  # (rows, V)
            is_predicted = targets[start : start + rows] != ignored
            wanted = targets[start : start + rows].where(is_predicted, 0)[:, None]
            normalizer = part.logsumexp(dim=1, keepdim=True)
            losses = normalizer - part.gather(1, wanted)
            total += losses[:, 0].where(is_predicted, 0).sum()
            if gradient is None and unwanted is None:
                continue
            part.sub_(normalizer).exp_()  # probabilities
            if unwanted is not None:
                total += unwanted.add_to(part, start=start)
            if gradient is not None:
                part.scatter_add_(1, wanted, -torch.ones_like(normalizer))
                gradient[start : start + rows] = part.mul_(is_predicted[:, None] / divisor)
        ctx.save_for_backward(gradient)
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient that is there already, times the one from outside."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None, None


def causal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: torch.Tensor | None = None,
    *,
    unlikelihood: Unlikelihood | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """What transformers' `ForCausalLMLoss` gives, with its arguments.

    Args:
        logits: shape (B, T, V), float32 or bfloat16.
        labels: int64 of shape (B, T): the tokens themselves; logits at t are for label t + 1.
        vocab_size: V.
        num_items_in_batch: what the sum is divided by; the predicted tokens where None.
        ignore_index: the label that isn't predicted.
        shift_labels: labels moved by one already.
        unlikelihood: of repetitions among the predicted tokens, added to the sum.
        kwargs: of `cross_entropy`; then, and in float16, whose gradients a scaler has to lift
            before they are rounded, the stock function is used.

    Raises:
        ModelError: an unlikelihood, and the stock function has to be used.
    """
    if kwargs or logits.dtype == torch.float16:
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
    rows = logits.reshape(-1, vocab_size)
    loss: torch.Tensor = _CrossEntropy.apply(rows, targets, divisor, ignore_index, unwanted)  # type: ignore[no-untyped-call]
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


def use_fast_loss(model: PreTrainedModel, *, unlikelihood: Unlikelihood | None = None) -> None:
    """Let `model` compute its loss by `causal_loss`, where its own is the stock function.

    Raises:
        ModelError: an unlikelihood, and the model has a loss of its own.
    """
    if model.loss_function is ForCausalLMLoss:
        model.loss_function = (
            causal_loss if unlikelihood is None else partial(causal_loss, unlikelihood=unlikelihood)
        )
    elif unlikelihood is not None:
        raise ModelError(
            f"training.unlikelihood_weight: {model.config.model_type} computes a loss of its own, "
            "to which nothing can be added. Leave it out."
        )
