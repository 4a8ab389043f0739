"""A `training` section -> what in it doesn't go together, so that training would fail or ignore it.

Follows `TrainingArguments.__post_init__`, `Trainer.__init__`, `get_scheduler` and the optimizers of
transformers 5.23; tests/agreement holds it to what `gptft train` really does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gptft.config.training_fields import (
    OWN_OPTIMIZERS,
    FieldProblem,
    value_problems,
    without_auto,
)
from gptft.config.training_ignored import DEFAULTS, ignored, is_low_rank
from gptft.config.training_kwargs import (
    accelerator_problems,
    checkpointing_problems,
    optim_args_problems,
    schedule_problems,
)

_METRICS = ("loss", "eval_loss", "perplexity", "eval_perplexity")
_NEEDS_VALIDATION = (
    "needs a validation part. Set data.validation to a share such as 0.1, or to files."
)


def conflicts(values: Mapping[str, Any], *, has_validation: bool) -> list[FieldProblem]:
    """What doesn't go together in a `training` section whose single values are right.

    Args:
        values: the fields that are set.
        has_validation: whether there is a validation part.

    Returns:
        (field, message) pairs; the message follows the field's full name.
    """
    values = without_auto(values)
    training = {**DEFAULTS, **{name: v for name, v in values.items() if v is not None}}
    found = [] if has_validation else list(_without_validation(training))
    found += [one.problem(values) for one in ignored(values)]
    for check in (
        _best_model,
        _averaging,
        _weight_decay,
        _step_counts,
        schedule_problems,
        accelerator_problems,
        checkpointing_problems,
        _optimizer,
        optim_args_problems,
        _pairs,
    ):
        found += check(training)
    return found


def training_problems(
    values: Mapping[str, Any], *, has_validation: bool = True
) -> list[FieldProblem]:
    """What is wrong with a `training` section: single values, and what doesn't go together.

    Args:
        values: the section.
        has_validation: whether there is a validation part.

    Returns:
        (field, message) pairs; the message follows the field's full name.
    """
    problems = value_problems(values)
    wrong = {name for name, _ in problems}
    right = {name: value for name, value in values.items() if name not in wrong}
    return problems + [
        (name, message)
        for name, message in conflicts(right, has_validation=has_validation)
        if not any(f"training.{other}" in message for other in wrong)
    ]


def _without_validation(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    by_evaluations = ("load_best_model_at_end", "eval_on_start", "early_stopping_patience")
    for name in ("eval_strategy", *by_evaluations):
        if training.get(name) not in (None, False, "no"):
            yield name, _NEEDS_VALIDATION


def _best_model(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """A best model is found by evaluations, and kept where it is saved as often as measured."""
    metric = training.get("metric_for_best_model")
    if metric is not None and metric not in _METRICS:
        yield "metric_for_best_model", f"must be one of {', '.join(_METRICS)}, not {metric!r}."
    evaluates, saves = training["eval_strategy"], training["save_strategy"]
    if saves == "best":
        if evaluates == "no":
            yield "save_strategy", "best needs evaluations. Set training.eval_strategy."
        if metric is None and not training.get("load_best_model_at_end"):
            yield "save_strategy", "best needs training.metric_for_best_model: loss."
    elif training.get("load_best_model_at_end"):
        if evaluates != saves:
            yield (
                "load_best_model_at_end",
                f"needs a checkpoint for each evaluation, and training.eval_strategy is "
                f"{evaluates}, training.save_strategy {saves}. Set both to the same, or "
                "save_strategy: best.",
            )
        elif evaluates == "steps" and not _is_multiple(training):
            yield (
                "load_best_model_at_end",
                f"needs training.save_steps, {training['save_steps']}, to be a multiple of "
                f"training.eval_steps, {_eval_steps(training)}.",
            )


def _averaging(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """A mean of the last checkpoints takes checkpoints that come at intervals, and are kept."""
    name = "average_checkpoints"
    if not (number := training.get(name)):
        return
    saves, limit = training["save_strategy"], training.get("save_total_limit")
    if saves not in ("steps", "epoch"):
        yield name, f"needs training.save_strategy: steps or epoch, and that is {saves}. Set it."
    elif limit is not None and limit < number:
        yield (
            name,
            f"needs {number:,} checkpoints, and training.save_total_limit keeps {limit:,}. Set "
            f"that to {number:,} or more.",
        )


def _weight_decay(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    name = "weight_decay_end"
    if (end := training.get(name)) is None:
        return
    if end == (training.get("weight_decay") or 0):
        yield name, f"has no effect: training.weight_decay is {end:g}, too. Leave it out."
    for divides in ("fsdp", "deepspeed"):
        if training.get(divides):
            why = "which divides the weights that decay. Leave one of them out."
            yield name, f"can't go together with training.{divides}, {why}"


def _eval_steps(training: Mapping[str, Any]) -> float:
    steps: float = training.get("eval_steps") or training["logging_steps"]
    return steps


def _is_multiple(training: Mapping[str, Any]) -> bool:
    every, saves = _eval_steps(training), training["save_steps"]
    if every < 1 and saves < 1:  # shares of the run; in millionths, as rounding would hide it
        return (saves * 1_000_000) % (every * 1_000_000) == 0 if every else True
    return saves % every == 0 if every else True


def _step_counts(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for kind in ("logging", "eval", "save"):
        steps = training.get(f"{kind}_steps", 1)
        if training[f"{kind}_strategy"] == "steps" and steps > 1 and steps != int(steps):
            yield (
                f"{kind}_steps",
                f"must be a whole number of steps, or a share of the run below 1, not {steps}.",
            )
    if not training["logging_steps"]:
        if training["logging_strategy"] == "steps":
            why = "0 goes with training.logging_strategy: no. Set that, or log every so many steps."
            yield "logging_steps", why
        elif training["eval_strategy"] == "steps" and not training.get("eval_steps"):
            yield "eval_strategy", "steps needs training.eval_steps."


def _optimizer(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    optim = training["optim"]
    for name, why in OWN_OPTIMIZERS.get(optim, {}).items():
        if training.get(name):
            yield name, why
    if is_low_rank(optim) and not training.get("optim_target_modules"):
        yield "optim", f"{optim} needs training.optim_target_modules, such as all-linear."
    if optim.endswith("layerwise") and training.get("gradient_accumulation_steps", 1) != 1:
        yield "gradient_accumulation_steps", f"can't be above 1 with optim: {optim}."


# Settings that can't go together, and why where that isn't plain.
_APART = {
    ("fp16", "bf16"): "",
    ("fsdp", "deepspeed"): "",
    ("fp16", "unlikelihood_weight"): ": its loss is scaled, and bf16's is not",
    ("label_smoothing_factor", "unlikelihood_weight"): ": it puts a loss of its own in place",
    ("use_liger_kernel", "unlikelihood_weight"): ": it puts a loss of its own in place",
    **{
        (divides, averages): ": it divides the weights, and their average takes whole ones"
        for divides in ("fsdp", "deepspeed")
        for averages in ("ema_decay", "average_checkpoints")
    },
    ("average_checkpoints", "ema_decay"): ": the model can be but one of these averages",
    ("average_checkpoints", "load_best_model_at_end"): ": the model is a mean or the best one",
}


def _pairs(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for (name, other), why in _APART.items():
        if training.get(name) and training.get(other):
            yield name, f"can't go together with training.{other}{why}. Leave one of them out."
