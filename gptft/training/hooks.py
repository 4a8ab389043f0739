"""A module -> whether somebody listens to what it is given or gives, so that it has to stay."""

from torch import nn


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks are registered on a module itself, forward or backward."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
