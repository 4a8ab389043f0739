"""RMSNorm written in six steps -> one that keeps its input and a number a row for the way back."""

from functools import partial
from typing import Any

import torch
from torch import nn

from gptft.training.hooks import has_hooks

_ROWS = 3  # of the input that a layer is tried on


class _RmsNorm(torch.autograd.Function):
    """Rows over the root of their mean square, times a weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Shape (..., C), float32, of one like it and a weight of shape (C,)."""
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(epsilon).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        normalized: torch.Tensor = (x * scale).mul_(weight)
        return normalized

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of the input and of the weight, where they are asked for."""
        x, weight, scale = ctx.saved_tensors
        normalized = x * scale
        of_weight = of_x = None
        if ctx.needs_input_grad[1]:
            of_weight = (outer[0] * normalized).reshape(-1, x.shape[-1]).sum(dim=0)
        if ctx.needs_input_grad[0]:
            of_x = outer[0] * weight
            along = torch.linalg.vecdot(of_x, normalized)[..., None].div_(x.shape[-1])
            of_x.sub_(normalized.mul_(along)).mul_(scale)
        return of_x, of_weight, None


def use_lean_norms(model: nn.Module, *, is_tried: bool = True) -> int:
    """Let every plain RMSNorm of a model keep one tensor for its gradient, where stock keeps two.

    Inputs that aren't float32 go through the layer's own forward.

    Args:
        model: on a CPU; nothing else was measured.
        is_tried: each layer is compared with its own forward first. False for a model of tensors
            without contents.

    Returns:
        how many layers were changed.
    """
    found = [one for one in model.modules() if _is_plain(one)]
    norms = [one for one in found if not is_tried or _is_alike(one)]
    for norm in norms:
        norm.forward = partial(_forward, norm, norm.forward)
    return len(norms)


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is named as an RMSNorm and has what one has: a weight and an epsilon."""
    if not type(module).__name__.endswith("RMSNorm") or [*module.children()]:
        return False
    weights = dict(module.named_parameters())
    return (
        not has_hooks(module)
        and [*weights] == ["weight"]
        and weights["weight"].dim() == 1
        and weights["weight"].dtype == torch.float32
        and isinstance(_epsilon(module), float)
    )


@torch.no_grad()
def _is_alike(norm: Any) -> bool:
    """Whether a layer does what is put in its place: Gemma's adds one to its weight."""
    if norm.weight.device.type != "cpu":
        return False
    x = torch.linspace(-2, 3, _ROWS * len(norm.weight)).view(_ROWS, -1)
    return torch.allclose(norm(x), _normalized(norm, x), rtol=1e-5, atol=1e-7)


def _epsilon(norm: nn.Module) -> Any:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def _forward(norm: Any, stock: Any, x: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.float32 or norm.weight.dtype != torch.float32:
        result: torch.Tensor = stock(x)
        return result
    return _normalized(norm, x)


def _normalized(norm: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _RmsNorm.apply(x, norm.weight, _epsilon(norm))  # type: ignore[no-untyped-call]
    return result
