"""A loaded optimizer and schedule, and settings changed since -> both as the settings say now."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import TrainingArguments


def load_with_changes(
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    load: Callable[[], None],
    *,
    args: TrainingArguments,
    changed: Collection[str],
) -> None:
    """Load the state of an optimizer and a schedule, then let changed arguments have the last word.

    Args:
        optimizer: made for `args`, its state still empty.
        schedule: of the optimizer's learning rate.
        load: puts a checkpoint's state into both.
        args: as they are now.
        changed: settings that differ from the checkpoint's, such as training.learning_rate.
    """
    decays = [group.get("weight_decay") for group in optimizer.param_groups]
    fresh = optimizer.state_dict()
    load()
    if not changed:
        return
    if not fresh["param_groups"][0].keys() <= optimizer.param_groups[0].keys():
        optimizer.load_state_dict(fresh)  # the moments were another optimizer's
    # A LambdaLR is a function of the step; others, such as a plateau's, have a history to keep.
    is_function_of_step = isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
    for group, decay in zip(optimizer.param_groups, decays, strict=True):
        if is_function_of_step or "training.learning_rate" in changed:
            group["initial_lr"] = group["lr"] = args.learning_rate
        if decay is not None:
            group["weight_decay"] = decay
        if "betas" in group:
            group["betas"] = (args.adam_beta1, args.adam_beta2)
            group["eps"] = args.adam_epsilon
    if is_function_of_step:
        schedule.base_lrs = [args.learning_rate for _ in schedule.base_lrs]
        rates = [args.learning_rate * rate(schedule.last_epoch) for rate in schedule.lr_lambdas]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates  # what get_last_lr gives, and so the next log step
