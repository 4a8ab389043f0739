"""A model -> Muon: matrices are updated by an orthogonalized momentum, the rest by AdamW.

It is one `torch.optim.Optimizer` with one learning rate, so that schedules, checkpoints and the
Trainer see nothing unusual. torch has a Muon of its own (2.13); it takes matrices alone, one at a
time, and always computes in bfloat16, which a CPU without bfloat16 instructions does 30 to 200
times slower than float32.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw
from transformers import PreTrainedModel, TrainingArguments

from gptft.models.precision import has_native_bfloat16

# Coefficients of the quintic iteration, and how often it runs (Jordan et al. 2024, "Muon: An
# optimizer for hidden layers in neural networks", section "Newton-Schulz").
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_MOMENTUM = 0.95  # ibid.
_RMS = 0.2  # of an AdamW update (Liu et al. 2025, 2502.16982, section 2.2)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of each matrix near 1, singular vectors kept.

    Args:
        matrices: shape (N, R, C), of any scale.

    Returns:
        the same shape and dtype; singular values are between 0.68 and 1.13 where they weren't
        vanishingly small against the largest.

    Source: Jordan et al. 2024, five steps of a Newton-Schulz iteration.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Muon for groups whose `is_matrix` is true, AdamW for the others.

    A matrix of R x C moves by learning rate times 0.2 sqrt(max(R, C)) times an orthogonal matrix:
    as far, by root mean square, as AdamW would move it. So one learning rate and one weight decay
    serve both (Liu et al. 2025, 2502.16982).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = _MOMENTUM,
    ) -> None:
        """Take groups of `params`, `weight_decay` and `is_matrix`; betas and eps are AdamW's."""
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum, "weight_decay": 0}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["is_matrix"]:
                self._update_matrices(parameters, group)
            else:
                self._update_by_adamw(parameters, group)
        return loss

    def _update_matrices(self, parameters: Sequence[torch.Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[Any, list[torch.Tensor]] = defaultdict(list)
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            by_shape[(parameter.shape, parameter.device, parameter.dtype)].append(parameter)
        for (shape, device, dtype), alike in by_shape.items():
            gradients = [p.grad for p in alike if p.grad is not None]
            buffers = [self.state[p]["momentum_buffer"] for p in alike]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            # Nesterov's look ahead.
            ahead = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))
            fast = torch.bfloat16 if has_native_bfloat16(device) else torch.float32
            updates = orthogonalize(ahead.to(fast)).to(dtype)
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            scale = -group["lr"] * _RMS * math.sqrt(max(shape))
            torch._foreach_add_(alike, list(updates.unbind()), alpha=scale)

    def _update_by_adamw(self, parameters: Sequence[torch.Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[p] for p in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            list(parameters),
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def make(model: PreTrainedModel, args: TrainingArguments, *, decay_names: Iterable[str]) -> Muon:
    """Make the optimizer of `model`: Muon for its hidden matrices, AdamW for the rest.

    The rest are embeddings, the output head, biases and the gains of norms.

    Args:
        model: whose parameters with `requires_grad` are trained.
        args: its learning rate and weight decay are of both: a step takes learning_rate *
            weight_decay of a weight. Betas and epsilon are AdamW's.
        decay_names: parameters that decay.
    """
    decaying = set(decay_names)
    head = model.get_output_embeddings()
    apart = {
        id(weight)
        for module in model.modules()
        if module is head or isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
    }
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim == 2 and id(parameter) not in apart
            groups.setdefault((is_matrix, name in decaying), []).append(parameter)
    return Muon(
        [
            {"params": group, "is_matrix": is_matrix, "weight_decay": args.weight_decay * decays}
            for (is_matrix, decays), group in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
    )
