"""Logits and labels -> the causal loss, and its gradient in the same pass.

In: what a model of transformers hands to its `loss_function`. Out: the very loss the stock function
gives, in less time and memory: it makes no copy of all logits in float32. On a CPU the rows at work
fit its cache.
"""

from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

_ROWS_ON_CPU = 2**21  # logits at a time: 8 MiB as float32, which stay in a cache
_ROWS_ELSEWHERE = 2**27  # enough for an accelerator to be busy


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy over a divisor; the gradient is made with the loss, while it is near."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, divisor: torch.Tensor, ignored: int
    ) -> torch.Tensor:
        """Scalar, float32, from logits of shape (N, V) and targets of shape (N,)."""
        at_once = _ROWS_ON_CPU if logits.device.type == "cpu" else _ROWS_ELSEWHERE
        rows = max(1, at_once // logits.shape[1])
        wants_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(logits) if wants_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        for start in range(0, len(logits), rows):
            part = logits[start : start + rows].to(torch.float32, copy=True)  # (rows, V)
            counts = targets[start : start + rows] != ignored
            wanted = targets[start : start + rows].where(counts, 0)[:, None]
            normalizer = part.logsumexp(dim=1, keepdim=True)
            losses = normalizer - part.gather(1, wanted)
            total += losses[:, 0].where(counts, 0).sum()
            if gradient is not None:
                scale = counts[:, None] / divisor
                part.sub_(normalizer).exp_()
                part.scatter_add_(1, wanted, -torch.ones_like(normalizer))
                gradient[start : start + rows] = part.mul_(scale)
        ctx.save_for_backward(gradient)
        return total / divisor

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """The gradient that is there already, times the one from outside."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None


def causal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: torch.Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: torch.Tensor | None = None,
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
        kwargs: of `cross_entropy`; then, and in float16, whose gradients a scaler has to lift
            before they are rounded, the stock function is used.
    """
    if kwargs or logits.dtype == torch.float16:
        divisor: Any = num_items_in_batch
        return ForCausalLMLoss(
            logits, labels, vocab_size, divisor, ignore_index, shift_labels, **kwargs
        )
    if shift_labels is None:
        shift_labels = pad(labels, (0, 1), value=ignore_index)[..., 1:]
    targets = shift_labels.reshape(-1).to(logits.device)
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum()
    divisor = torch.as_tensor(num_items_in_batch, dtype=torch.float32, device=logits.device)
    rows = logits.reshape(-1, vocab_size)
    loss: torch.Tensor = _CrossEntropy.apply(rows, targets, divisor, ignore_index)  # type: ignore[no-untyped-call]
    return loss


def use_fast_loss(model: PreTrainedModel) -> None:
    """Let `model` compute its loss by `causal_loss`, where its own is the stock function."""
    if model.loss_function is ForCausalLMLoss:
        model.loss_function = causal_loss
