"""Settings of `training` that are mappings, or texts of `name=value` -> what is wrong inside them.

Follows transformers 5.23 (`get_scheduler`, `AcceleratorConfig`, its optimizers) and torch 2.13.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from gptft.config.settings import Flag, Setting, exact, exact_whole, one_of, read_settings
from gptft.config.suggest import did_you_mean
from gptft.config.training_fields import FieldProblem
from gptft.inputs import parse_json
from gptft.terminal.words import wrong_value


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


def _mapping(training: Mapping[str, Any], name: str) -> tuple[dict[str, Any], str | None]:
    """A setting that is a mapping, or one as JSON, less its nulls; and what is wrong with it."""
    given = training.get(name, {})
    if isinstance(given, str):
        try:
            given = parse_json(given)
        except ValueError:
            given = None
    if not isinstance(given, dict):
        return {}, f"must be a mapping, not {wrong_value(training[name])}."
    return {key: value for key, value in given.items() if value is not None}, None


def schedule_problems(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """What is wrong with lr_scheduler_kwargs: each schedule takes its own, and some need them.

    Args:
        training: the section, lr_scheduler_type, eval_strategy and learning_rate in it.
    """
    kind, name = training["lr_scheduler_type"], "lr_scheduler_kwargs"
    table = SCHEDULES.get(kind)
    if table is None:  # of another transformers
        return
    if table in (_PLATEAU, SCHEDULES["greedy"]) and training["eval_strategy"] == "no":
        yield "lr_scheduler_type", f"{kind} follows evaluations. Set training.eval_strategy."
    given, problem = _mapping(training, name)
    if problem:
        yield name, problem
        return
    if not table:
        return
    values, problems = read_settings(given, table=table)
    yield from ((f"{name}.{key}", problem) for key, problem in problems)
    if table.keys() >= _MIN_LR.keys() and len(values.keys() & {"min_lr", "min_lr_rate"}) != 1:
        yield (
            "lr_scheduler_type",
            f"{kind} needs training.lr_scheduler_kwargs with one of min_lr and min_lr_rate, such "
            "as {min_lr_rate: 0.1}.",
        )
    if "min_lr" in values and "min_lr_rate" in table and not training["learning_rate"]:
        yield f"{name}.min_lr", "is divided by training.learning_rate, which is 0. Raise that."
    if kind == "warmup_stable_decay" and "num_decay_steps" not in given:
        why = f"{kind} needs training.lr_scheduler_kwargs, such as {{num_decay_steps: 100}}."
        yield "lr_scheduler_type", why
    if (end := values.get("lr_end", 1e-7 if kind == "polynomial" else -1)) >= (
        rate := training["learning_rate"]
    ):
        yield f"{name}.lr_end", f"is {end:g}, and must be below training.learning_rate, {rate:g}."


def kwargs_as_meant(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `training` section that are mappings, numbers in them as they are meant.

    Returns:
        those whose numbers were written otherwise: 8.0 for 8, or 1 for 1.0.

    >>> kwargs_as_meant(
    ...     {"lr_scheduler_type": "inverse_sqrt", "lr_scheduler_kwargs": '{"timescale": 1e3}'}
    ... )
    {'lr_scheduler_kwargs': {'timescale': 1000}}
    """
    schedule = SCHEDULES.get(str(training.get("lr_scheduler_type", "linear")), {})
    tables = {"lr_scheduler_kwargs": schedule} | dict.fromkeys(
        ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"), CHECKPOINTING
    )
    meant = {}
    for name, table in tables.items():
        given = _mapping(training, name)[0]
        values = {**given, **read_settings(given, table=table)[0]}
        if str(values) != str(given):
            meant[name] = values
    return meant


_ACCELERATOR = _table(
    split_batches=Flag,
    dispatch_batches=Flag,
    even_batches=Flag,
    use_seedable_sampler=Flag,
    non_blocking=Flag,
)
_ACCUMULATION = _table(sync_each_batch=Flag, adjust_scheduler=Flag)


def accelerator_problems(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """What is wrong inside accelerator_config."""
    given = training.get("accelerator_config")
    if not isinstance(given, Mapping):  # the name of a file is read elsewhere
        return
    given = {key: value for key, value in given.items() if value is not None}
    accumulation = given.pop("gradient_accumulation_kwargs", {})
    for path, values, table in (
        ("accelerator_config", given, _ACCELERATOR),
        ("accelerator_config.gradient_accumulation_kwargs", accumulation, _ACCUMULATION),
    ):
        if not isinstance(values, Mapping):
            yield path, f"must be a mapping, not {wrong_value(values)}."
            continue
        _, problems = read_settings(values, table=table)
        yield from ((f"{path}.{key}", problem) for key, problem in problems)


CHECKPOINTING = _table(
    use_reentrant=Flag,
    preserve_rng_state=Flag,
    determinism_check=one_of("default", "none"),
    debug=Flag,
    early_stop=Flag,
    every_n_layers=exact_whole(Ge(1)),
    offload=Flag,
)
# What goes with `use_reentrant: true`; the last two are of transformers itself.
_REENTRANT = {"use_reentrant", "preserve_rng_state", "every_n_layers", "offload"}


def checkpointing_problems(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """What torch.utils.checkpoint takes (2.13), more where it isn't reentrant, and transformers."""
    for kind in ("activation", "gradient"):
        name = f"{kind}_checkpointing_kwargs"
        given, problem = _mapping(training, name)
        if problem:
            yield name, problem
        _, problems = read_settings(given, table=CHECKPOINTING)
        yield from ((f"{name}.{key}", problem) for key, problem in problems)
        if given.get("use_reentrant"):
            for key in given.keys() - _REENTRANT:
                yield f"{name}.{key}", "needs use_reentrant: false."


# What optim_args may hold, by optim.
OPTIM_ARGS: dict[str, dict[str, Setting]] = {
    "sgd": _table(momentum=_AT_LEAST_0, dampening=exact(), nesterov=Flag),
    "adagrad": _table(lr_decay=_AT_LEAST_0, eps=_AT_LEAST_0),
    "rmsprop": _table(
        momentum=_AT_LEAST_0, alpha=exact(Ge(0), Le(1)), eps=_AT_LEAST_0, centered=Flag
    ),
}
# Others of torch's and transformers' own, which take none.
NO_OPTIM_ARGS = ("adamw_torch", "adamw_torch_fused", "adafactor")


def optim_args_problems(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """What is wrong inside optim_args, which transformers splits at commas.

    Args:
        training: the section, optim in it.
    """
    optim, text = training["optim"], training.get("optim_args")
    if not text:
        return
    pairs = [pair.split("=") for pair in text.replace(" ", "").split(",")]
    if any(len(pair) != 2 for pair in pairs):
        yield "optim_args", f"must be name=value, ..., such as momentum=0.9, not {text!r}."
        return
    if table := OPTIM_ARGS.get(optim):
        yield from _optim_args(dict(pairs), table)


def _optim_args(given: Mapping[str, str], table: Mapping[str, Setting]) -> Iterator[FieldProblem]:
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name == "weight_decay":  # the Trainer's groups of parameters have one, which counts
            yield "optim_args", f"holds {name}={text}, which has no effect. Set training.{name}."
            continue
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
