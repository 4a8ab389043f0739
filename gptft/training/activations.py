"""Activations written in many steps -> torch's own of the same function, in one."""

from torch import nn
from transformers import PreTrainedModel
from transformers.activations import FastGELUActivation, NewGELUActivation

# 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), both of them, keeping each product.
_GELU_BY_TANH = (NewGELUActivation, FastGELUActivation)


def use_fused_activations(model: PreTrainedModel) -> None:
    """Compute a GPT-2's GELU by one kernel, to the last bits alike; its config stays."""
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if type(child) in _GELU_BY_TANH:
                setattr(module, name, nn.GELU(approximate="tanh"))
