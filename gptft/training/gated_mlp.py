"""A gated MLP -> one that keeps two of its four wide tensors, and makes the others again.

`down(act(gate(x)) * up(x))` keeps `gate(x)`, its activation, `up(x)` and their product for the way
back: half of what a layer of a Llama keeps. The last two are made again of the first, at a half per
cent of a step's time (docs/experiments.md).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from gptft.training.hooks import has_hooks

_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class _Gated(torch.autograd.Function):
    """`act(gate) * up`, which keeps what it is given and nothing else."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, act: nn.Module) -> torch.Tensor:
        """All of one shape."""
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return _product(gate, up, act)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """The gradients of both."""
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            before = gate.detach().requires_grad_()
            activated = ctx.act(before)
        (of_gate,) = torch.autograd.grad(activated, before, outer[0] * up)
        return of_gate, outer[0] * activated.detach(), None


@dataclass(frozen=True)
class _ToBeMade:
    """In place of a tensor that is kept: its shape."""

    shape: torch.Size


def use_lean_mlps(model: nn.Module, *, is_tried: bool = True) -> int:
    """Let every gated MLP of a model keep half as much for its gradient; its results stay.

    Args:
        model: on a CPU, not checkpointed: there a layer's tensors are made again anyway.
        is_tried: each MLP is compared with its own forward first. False for a model of tensors
            without contents.

    Returns:
        how many were changed.
    """
    found = [one for one in model.modules() if {*dict(one.named_children())} == _PARTS]
    mlps = [one for one in found if _is_plain(one) and (not is_tried or _is_alike(one))]
    for mlp in mlps:
        mlp.forward = partial(_forward, mlp)
    return len(mlps)


def _is_plain(mlp: Any) -> bool:
    """Whether nothing but its four parts belongs to an MLP, and its activation has no weights."""
    if has_hooks(mlp) or [*mlp.parameters(recurse=False), *mlp.act_fn.parameters()]:
        return False
    return isinstance(getattr(mlp.gate_proj, "in_features", None), int)


def _is_alike(mlp: Any) -> bool:
    """Whether an MLP gives, bit for bit, what is put in its place."""
    weight = next((one for one in mlp.parameters() if one.is_floating_point()), None)
    if weight is None or weight.device.type != "cpu":
        return False
    x = torch.linspace(-2, 3, 2 * mlp.gate_proj.in_features).view(1, 2, -1).to(weight.dtype)
    was_training = mlp.training
    mlp.eval()
    try:
        with torch.no_grad():
            return torch.equal(mlp(x), _forward(mlp, x))
    except (TypeError, RuntimeError, ValueError):  # it is called otherwise
        return False
    finally:
        mlp.train(was_training)


def _forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    """What the MLP gives for hidden states of shape (..., C): the same shape."""
    gate, up, act = mlp.gate_proj(x), mlp.up_proj(x), mlp.act_fn
    if not torch.is_grad_enabled():
        result: torch.Tensor = mlp.down_proj(_product(gate, up, act))
        return result
    product: torch.Tensor = _Gated.apply(gate, up, act)  # type: ignore[no-untyped-call]
    gate, up = gate.detach(), up.detach()
    place, dtype, size = _place(product), product.dtype, product.numel()

    def pack(kept: torch.Tensor) -> torch.Tensor | _ToBeMade:
        is_product = kept.dtype == dtype and kept.numel() == size and _place(kept) == place
        return _ToBeMade(kept.shape) if is_product else kept

    def unpack(kept: torch.Tensor | _ToBeMade) -> torch.Tensor:
        if isinstance(kept, _ToBeMade):
            return _product(gate, up, act).view(kept.shape)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        result = mlp.down_proj(product)
    return result


def _place(tensor: torch.Tensor) -> int:
    """Which memory a tensor looks at; there is one of those without contents, too."""
    return int(tensor.untyped_storage()._cdata)


def _product(gate: torch.Tensor, up: torch.Tensor, act: nn.Module) -> torch.Tensor:
    activated: torch.Tensor = act(gate)
    return activated * up
