"""The name of an optimizer of gptft's own, and a model -> that optimizer.

An optimizer is a file here with a function `make`, and an entry in
`gptft.config.training_fields.OWN_OPTIMIZERS`, which a config is checked by without torch.
"""

from collections.abc import Iterable
from importlib import import_module

import torch
from transformers import PreTrainedModel, TrainingArguments

from gptft.config.training_fields import OWN_OPTIMIZERS


def make_optimizer(
    model: PreTrainedModel, args: TrainingArguments, *, decay_names: Iterable[str]
) -> torch.optim.Optimizer | None:
    """The optimizer that `args.optim` names; None where it is one of the stock Trainer's.

    Args:
        model: whose parameters with `requires_grad` are trained.
        args: optim, learning_rate, weight_decay and what the optimizer takes besides.
        decay_names: parameters that decay.
    """
    if args.optim not in OWN_OPTIMIZERS:
        return None
    module = import_module(f"{__name__}.{args.optim}")
    optimizer: torch.optim.Optimizer = module.make(model, args, decay_names=decay_names)
    return optimizer
