"""A `training` section -> what in it doesn't go together, so that training would fail or ignore it.

Follows `TrainingArguments.__post_init__`, `Trainer.__init__`, `get_scheduler` and the optimizers of
transformers 5.23; tests/agreement holds it to what `gptft train` really does.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from gptft.config.settings import Flag, Setting, one_of, read_settings
from gptft.config.suggest import did_you_mean
from gptft.config.training_fields import OWN_OPTIMIZERS, exact, exact_whole, value_problems
from gptft.terminal.words import wrong_value

Problem = tuple[str, str]  # a field's name below `training`, and a message that follows it

# Defaults that the checks below compare with: gptft's own, else those of TrainingArguments.
_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "no",
    "save_strategy": "steps",
    "logging_strategy": "steps",
    "logging_steps": 1 / 50,
    "save_steps": 500,
    "lr_scheduler_type": "linear",
    "learning_rate": 5e-5,
    "optim": "adamw_torch_fused",
}
_METRICS = ("loss", "eval_loss", "perplexity", "eval_perplexity")
_NEEDS_VALIDATION = (
    "needs a validation part. Set data.validation to a share such as 0.1, or to files."
)


def conflicts(values: Mapping[str, Any], *, has_validation: bool) -> list[Problem]:
    """What doesn't go together in a `training` section whose single values are right.

    Args:
        values: the fields that are set.
        has_validation: whether there is a validation part.

    Returns:
        (field, message) pairs; the message follows the field's full name.
    """
    training = {**_DEFAULTS, **{name: v for name, v in values.items() if v is not None}}
    found = [] if has_validation else list(_without_validation(training))
    for check in (
        _best_model,
        _step_counts,
        _schedule,
        _precision,
        _loader,
        _accelerator,
        _optimizer,
        _unlikelihood,
        _off_by_other,
    ):
        found += check(training)
    return found


def training_problems(values: Mapping[str, Any], *, has_validation: bool = True) -> list[Problem]:
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


def _without_validation(training: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("eval_strategy", "load_best_model_at_end", "eval_on_start"):
        if training.get(name, False) not in (False, "no"):
            yield name, _NEEDS_VALIDATION


def _best_model(training: Mapping[str, Any]) -> Iterator[Problem]:
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


def _eval_steps(training: Mapping[str, Any]) -> float:
    steps: float = training.get("eval_steps") or training["logging_steps"]
    return steps


def _is_multiple(training: Mapping[str, Any]) -> bool:
    every, saves = _eval_steps(training), training["save_steps"]
    if every < 1 and saves < 1:  # shares of the run; in millionths, as rounding would hide it
        return (saves * 1_000_000) % (every * 1_000_000) == 0 if every else True
    return saves % every == 0 if every else True


def _step_counts(training: Mapping[str, Any]) -> Iterator[Problem]:
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


def _table(**kinds: Any) -> dict[str, Setting]:
    return {name: Setting(name, kind, None, "") for name, kind in kinds.items()}


_AT_LEAST_0, _COUNT = exact(Ge(0)), exact_whole(Ge(0))
_CYCLES = _table(num_cycles=exact(Gt(0)))
_MIN_LR = {**_CYCLES, **_table(min_lr=_AT_LEAST_0, min_lr_rate=_AT_LEAST_0)}
_SHAPE = one_of("linear", "cosine", "1-sqrt")
_PLATEAU = _table(
    mode=one_of("min", "max"),
    factor=exact(Gt(0), Lt(1)),
    patience=_COUNT,
    threshold=_AT_LEAST_0,
    threshold_mode=one_of("rel", "abs"),
    cooldown=_COUNT,
    min_lr=_AT_LEAST_0,
    eps=_AT_LEAST_0,
)
# What lr_scheduler_kwargs may hold, by lr_scheduler_type.
SCHEDULES: dict[str, dict[str, Setting]] = {
    "linear": {},
    "constant": {},
    "constant_with_warmup": {},
    "cosine": _CYCLES,
    "cosine_with_restarts": _table(num_cycles=exact_whole(Ge(1))),
    "cosine_with_min_lr": _MIN_LR,
    "cosine_warmup_with_min_lr": {**_MIN_LR, **_table(warmup_lr_rate=_AT_LEAST_0)},
    "polynomial": _table(lr_end=_AT_LEAST_0, power=_AT_LEAST_0),
    "inverse_sqrt": _table(timescale=exact_whole(Ge(1))),
    "warmup_stable_decay": _CYCLES
    | _table(
        num_decay_steps=_COUNT,
        num_stable_steps=_COUNT,
        warmup_type=_SHAPE,
        decay_type=_SHAPE,
        min_lr_ratio=exact(Ge(0), Le(1)),
    ),
    "reduce_lr_on_plateau": _PLATEAU,
    "greedy": _PLATEAU
    | _table(
        warmup=_COUNT,
        max_lr=_AT_LEAST_0,
        verbose=Flag,
        smooth=Flag,
        window_size=exact_whole(Ge(1)),
        reset_start=_COUNT,
    ),
}


def _schedule(training: Mapping[str, Any]) -> Iterator[Problem]:
    """A schedule takes arguments of its own, and some can't do without."""
    kind, name = training["lr_scheduler_type"], "lr_scheduler_kwargs"
    table = SCHEDULES.get(kind)
    if table is None:  # of another transformers
        return
    if table in (_PLATEAU, SCHEDULES["greedy"]) and training["eval_strategy"] == "no":
        yield "lr_scheduler_type", f"{kind} follows evaluations. Set training.eval_strategy."
    given = training.get(name, {})
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            yield name, f"must be a mapping, not {wrong_value(training[name])}."
            return
    if given and not table:
        yield name, f"has no effect with lr_scheduler_type: {kind}. Leave it out."
        return
    given = {key: value for key, value in given.items() if value is not None}
    values, problems = read_settings(given, table=table)
    yield from ((f"{name}.{key}", problem) for key, problem in problems)
    if table.keys() >= _MIN_LR.keys() and len(values.keys() & {"min_lr", "min_lr_rate"}) != 1:
        yield (
            "lr_scheduler_type",
            f"{kind} needs training.lr_scheduler_kwargs with one of min_lr and min_lr_rate, such "
            "as {min_lr_rate: 0.1}.",
        )
    if kind == "warmup_stable_decay" and "num_decay_steps" not in given:
        why = f"{kind} needs training.lr_scheduler_kwargs, such as {{num_decay_steps: 100}}."
        yield "lr_scheduler_type", why
    if (end := values.get("lr_end", 1e-7 if kind == "polynomial" else -1)) >= (
        rate := training["learning_rate"]
    ):
        yield f"{name}.lr_end", f"is {end:g}, and must be below training.learning_rate, {rate:g}."


def _precision(training: Mapping[str, Any]) -> Iterator[Problem]:
    if training.get("fp16") and training.get("bf16"):
        yield "fp16", "can't go together with training.bf16. Leave one of them out."


def _loader(training: Mapping[str, Any]) -> Iterator[Problem]:
    if not training.get("dataloader_num_workers"):
        for name in ("dataloader_prefetch_factor", "dataloader_multiprocessing_context"):
            if name in training:
                yield (
                    name,
                    "needs training.dataloader_num_workers above 0. Set that, or leave it out.",
                )


_ACCELERATOR = _table(
    split_batches=Flag,
    dispatch_batches=Flag,
    even_batches=Flag,
    use_seedable_sampler=Flag,
    non_blocking=Flag,
    use_configured_state=Flag,
)


def _accelerator(training: Mapping[str, Any]) -> Iterator[Problem]:
    given = training.get("accelerator_config")
    if isinstance(given, Mapping):
        given = {key: value for key, value in given.items() if value is not None}
        accumulation = given.pop("gradient_accumulation_kwargs", {})
        if accumulation:
            why = "has no effect here: use training.gradient_accumulation_steps. Leave it out."
            yield "accelerator_config.gradient_accumulation_kwargs", why
        _, problems = read_settings(given, table=_ACCELERATOR)
        yield from ((f"accelerator_config.{key}", problem) for key, problem in problems)


# What optim_args may hold, by optim. Others of torch's take none.
_OPTIM_ARGS: dict[str, dict[str, Setting]] = {
    "sgd": _table(momentum=_AT_LEAST_0, dampening=exact(), weight_decay=_AT_LEAST_0, nesterov=Flag),
    "adagrad": _table(lr_decay=_AT_LEAST_0, weight_decay=_AT_LEAST_0, eps=_AT_LEAST_0),
    "rmsprop": _table(
        momentum=_AT_LEAST_0,
        alpha=exact(Ge(0), Le(1)),
        eps=_AT_LEAST_0,
        weight_decay=_AT_LEAST_0,
        centered=Flag,
    ),
    "adamw_torch": {},
    "adamw_torch_fused": {},
    "adafactor": {},
}


def _optimizer(training: Mapping[str, Any]) -> Iterator[Problem]:
    optim, text = training["optim"], training.get("optim_args")
    for name, why in OWN_OPTIMIZERS.get(optim, {}).items():
        if training.get(name):
            yield (
                name,
                why if why.startswith("has") else f"is at odds with optim: {optim}, which {why}",
            )
    is_low_rank = optim.startswith(("galore", "apollo"))
    if is_low_rank and not training.get("optim_target_modules"):
        yield "optim", f"{optim} needs training.optim_target_modules, such as all-linear."
    if not is_low_rank and "optim_target_modules" in training:
        yield "optim_target_modules", f"has no effect with optim: {optim}. Leave it out."
    if optim.endswith("layerwise") and training.get("gradient_accumulation_steps", 1) != 1:
        yield "gradient_accumulation_steps", f"can't be above 1 with optim: {optim}."
    if not text:
        return
    pairs = [pair.split("=") for pair in text.replace(" ", "").split(",")]
    if any(len(pair) != 2 for pair in pairs):
        yield "optim_args", f"must be name=value, ..., such as momentum=0.9, not {text!r}."
        return
    table = _OPTIM_ARGS.get(optim)
    if table == {}:
        yield "optim_args", f"has no effect with optim: {optim}. Leave it out."
    elif table:
        yield from _optim_args(dict(pairs), table)


def _optim_args(given: Mapping[str, str], table: Mapping[str, Setting]) -> Iterator[Problem]:
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in table:
            hint = did_you_mean(name, table) or f"It may hold {', '.join(table)}."
            yield "optim_args", f"holds {name}, which is none of its settings. {hint}"
            continue
        try:
            is_flag = table[name].type is Flag
            value = text.lower() in ("true", "1", "yes") if is_flag else float(text)
            values[name] = table[name].read(value)
        except ValueError:
            yield "optim_args", f"holds {name}={text}, which must be {_wanted(table[name])}."
    if values.get("nesterov") and (not values.get("momentum") or values.get("dampening")):
        yield "optim_args", "has nesterov=true, which needs a momentum above 0 and no dampening."


def _wanted(setting: Setting) -> str:
    return f"a number {setting.range}".rstrip()


# What takes the loss out of gptft's hands.
_OTHER_LOSSES = {
    "fp16": "its loss is scaled, and bf16's is not.",
    "label_smoothing_factor": "it puts a loss of its own in place.",
    "use_liger_kernel": "it puts a loss of its own in place.",
}


def _unlikelihood(training: Mapping[str, Any]) -> Iterator[Problem]:
    """There must be a loss that an unlikelihood can be added to, and one to add."""
    if not training.get("unlikelihood_weight"):
        if "unlikelihood_ngram_size" in training:
            why = "has no effect without training.unlikelihood_weight. Set that, or leave it out."
            yield "unlikelihood_ngram_size", why
        return
    for name, why in _OTHER_LOSSES.items():
        if training.get(name):
            yield (
                name,
                f"can't go together with training.unlikelihood_weight: {why} "
                "Leave one of them out.",
            )


# Settings that do nothing without another one.
_NEED = {
    "fsdp_config": "fsdp",
    "liger_kernel_config": "use_liger_kernel",
}


def _off_by_other(training: Mapping[str, Any]) -> Iterator[Problem]:
    for name, other in _NEED.items():
        if training.get(name) and not training.get(other):
            yield name, f"has no effect without training.{other}. Set that, or leave it out."
    if training.get("fsdp") and training.get("deepspeed"):
        yield "fsdp", "can't go together with training.deepspeed. Leave one of them out."
