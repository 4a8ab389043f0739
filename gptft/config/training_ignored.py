"""A `training` section -> the settings in it that would do nothing, and which of them give way.

Follows transformers 5.23: `TrainingArguments.__post_init__`, `DefaultFlowCallback`,
`get_scheduler`, `trainer_optimizer`, and accelerate, none of which says so.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gptft.config.training_fields import OWN_OPTIMIZERS, FieldProblem
from gptft.config.training_kwargs import NO_OPTIM_ARGS, SCHEDULES
from gptft.terminal.words import short_value

# What the checks compare with where a setting isn't given: gptft's own default, else the class's.
DEFAULTS: dict[str, Any] = {
    "eval_strategy": "no",
    "save_strategy": "steps",
    "logging_strategy": "steps",
    "logging_steps": 1 / 50,
    "save_steps": 500,
    "lr_scheduler_type": "linear",
    "learning_rate": 5e-5,
    "optim": "adamw_torch_fused",
    "train_sampling_strategy": "random",
}

_Test = Callable[[Mapping[str, Any]], bool]

# Schedules that follow evaluations, and no steps.
FOLLOW_EVALUATIONS = ("reduce_lr_on_plateau", "greedy")
_LOW_RANK = ("galore", "apollo")
_WITHOUT_BETAS = (
    "sgd", "adagrad", "rmsprop", "adafactor", "galore", "lomo", "adalomo", "grokadamw",
    "schedule_free_sgd",
)  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})
# Values by which a setting asks for nothing, where they are others than `_NOTHING`.
_ASKS_NOTHING: dict[str, tuple[Any, ...]] = {
    "dataloader_in_order": (None, True),
    "hub_strategy": (None, "every_save"),
    "torch_compile": (None, True),
    "gradient_checkpointing": (None,),
    "ema_save": (None, True),
    "weight_decay_end": (None,),
}


@dataclass(frozen=True)
class Rule:
    """Settings that do nothing beside another one.

    Attributes:
        names: the settings, with spaces between.
        by: the setting that makes it so.
        holds: whether it does, in a section with `DEFAULTS` below it.
        way_out: what to do; "Leave it out." unless given.
        becomes: what `by` becomes where it wasn't meant; None for its default.
        yields: whether it can.
    """

    names: str
    by: str
    holds: _Test
    way_out: str = ""
    becomes: Any = None
    yields: bool = False


@dataclass(frozen=True)
class Ignored:
    """A setting that does nothing, and the rule that says so."""

    name: str
    rule: Rule

    def problem(self, values: Mapping[str, Any]) -> FieldProblem:
        """The setting, and a message that follows its full name."""
        by = self.rule.by
        value = values.get(by, DEFAULTS.get(by))
        if value or value is False:
            said = f"with {by}: {short_value(value)}. {self.rule.way_out or 'Leave it out.'}"
        else:
            said = f"without training.{by}. {self.rule.way_out or 'Set that, or leave it out.'}"
        return self.name, f"has no effect {said}"


@dataclass(frozen=True)
class GaveWay:
    """A setting that was changed for the sake of another one.

    Attributes:
        name: the setting.
        old: its value before; None where it had none but its default.
        new: its value now; None where it has none but its default.
        to: the setting it gave way to, and its value.
    """

    name: str
    old: Any
    new: Any
    to: str


def _is(by: str, *values: Any) -> _Test:
    return lambda training: training.get(by) in values


def _is_not(by: str, value: Any) -> _Test:
    return lambda training: training.get(by) != value


def _lacks(by: str) -> _Test:
    return lambda training: not training.get(by)


def _begins(by: str, *beginnings: str) -> _Test:
    return lambda training: training[by].startswith(beginnings)


def _other(name: str, by: str) -> _Test:
    return lambda training: training.get(by) is not None and training[by] != training[name]


def _logs_by_no_steps(training: Mapping[str, Any]) -> bool:
    # It is also how often evaluations are, where training.eval_steps doesn't say.
    measures_by_it = training["eval_strategy"] == "steps" and not training.get("eval_steps")
    return training["logging_strategy"] != "steps" and not measures_by_it


def _compares_nothing(training: Mapping[str, Any]) -> bool:
    follows = training["lr_scheduler_type"] in FOLLOW_EVALUATIONS
    return training["save_strategy"] == "no" and not follows


def _has_no_kwargs(training: Mapping[str, Any]) -> bool:
    return SCHEDULES.get(training["lr_scheduler_type"]) == {}


def is_low_rank(optim: str) -> bool:
    """Whether an optimizer projects the gradients of modules that are to be named."""
    return optim not in OWN_OPTIMIZERS and optim.startswith(_LOW_RANK)


def checkpoints_activations(training: Mapping[str, Any]) -> bool:
    """Whether a section asks for it by its name, or else by its old one."""
    new = training.get("activation_checkpointing")
    return bool(training.get("gradient_checkpointing") if new is None else new)


def _checkpoints_by(name: str) -> _Test:
    return lambda training: bool(training.get(name)) and checkpoints_activations(training)


_KEPT_BY = "Leave it out, or let training.save_strategy save something."
_RULES = (
    Rule(
        "num_train_epochs",
        "max_steps",
        lambda training: training.get("max_steps", -1) > 0,
        "Leave one of them out.",
        yields=True,
    ),
    Rule(
        "warmup_steps",
        "lr_scheduler_type",
        _is("lr_scheduler_type", "constant"),
        "Leave it out, or set training.lr_scheduler_type: constant_with_warmup.",
    ),
    Rule("warmup_steps", "lr_scheduler_type", _is("lr_scheduler_type", *FOLLOW_EVALUATIONS)),
    Rule("lr_scheduler_kwargs", "lr_scheduler_type", _has_no_kwargs),
    Rule(
        "eval_steps",
        "eval_strategy",
        _is_not("eval_strategy", "steps"),
        "Set training.eval_strategy: steps, or leave it out.",
        becomes="steps",
        yields=True,
    ),
    Rule(
        "eval_delay metric_for_best_model",
        "eval_strategy",
        _is("eval_strategy", "no"),
        "Set training.eval_strategy: epoch or steps, or leave it out.",
    ),
    Rule("metric_for_best_model", "save_strategy", _compares_nothing, _KEPT_BY),
    Rule(
        "save_steps",
        "save_strategy",
        _is_not("save_strategy", "steps"),
        "Set training.save_strategy: steps, or leave it out.",
        becomes="steps",
        yields=True,
    ),
    Rule(
        "save_total_limit save_only_model push_to_hub",
        "save_strategy",
        _is("save_strategy", "no"),
        _KEPT_BY,
        becomes="steps",
        yields=True,
    ),
    Rule(
        "logging_steps",
        "logging_strategy",
        _logs_by_no_steps,
        "Set training.logging_strategy: steps, or leave it out.",
        becomes="steps",
        yields=True,
    ),
    Rule("adam_beta1 adam_beta2 adam_epsilon", "optim", _begins("optim", *_WITHOUT_BETAS)),
    Rule("adam_epsilon", "optim", _begins("optim", "lion", "paged_lion")),
    Rule("weight_decay weight_decay_end", "optim", _begins("optim", *_LOW_RANK, "lomo", "adalomo")),
    Rule("optim_args", "optim", _is("optim", *NO_OPTIM_ARGS)),
    Rule("optim_target_modules", "optim", lambda training: not is_low_rank(training["optim"])),
    Rule("data_seed", "train_sampling_strategy", _is("train_sampling_strategy", "sequential")),
    Rule(
        "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order",
        "dataloader_num_workers",
        _lacks("dataloader_num_workers"),
    ),
    Rule("fsdp_config", "fsdp", _lacks("fsdp")),
    Rule("liger_kernel_config", "use_liger_kernel", _lacks("use_liger_kernel")),
    Rule("unlikelihood_ngram_size", "unlikelihood_weight", _lacks("unlikelihood_weight")),
    Rule("ema_save", "ema_decay", _lacks("ema_decay")),
    Rule("weight_decay_schedule", "weight_decay_end", _is("weight_decay_end", None)),
    Rule("early_stopping_threshold", "early_stopping_patience", _lacks("early_stopping_patience")),
    Rule(
        "early_stopping_patience",
        "eval_strategy",
        _is("eval_strategy", "no"),
        "Set training.eval_strategy: epoch or steps, or leave it out.",
    ),
    Rule(
        "hub_always_push hub_model_id hub_revision hub_strategy",
        "push_to_hub",
        _lacks("push_to_hub"),
    ),
    Rule(
        "gradient_checkpointing",
        "activation_checkpointing",
        _other("gradient_checkpointing", "activation_checkpointing"),
        "Leave it out: it is the old name of that.",
    ),
    Rule(
        "gradient_checkpointing_kwargs",
        "activation_checkpointing_kwargs",
        _other("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        "Leave it out: it is the old name of that.",
    ),
    *(
        Rule(
            f"{kind}_checkpointing_kwargs",
            f"{kind}_checkpointing",
            lambda training: not checkpoints_activations(training),
        )
        for kind in ("activation", "gradient")
    ),
    *(
        Rule("use_cache", f"{kind}_checkpointing", _checkpoints_by(f"{kind}_checkpointing"))
        for kind in ("activation", "gradient")
    ),
    Rule("torch_compile", "torch_compile_backend", _is_not("torch_compile_backend", None)),
    Rule("torch_compile", "torch_compile_mode", _is_not("torch_compile_mode", None)),
)


def ignored(values: Mapping[str, Any]) -> Iterator[Ignored]:
    """The settings of a section that would do nothing, though they ask for something.

    Args:
        values: the section, its single values right.
    """
    given = {name: value for name, value in values.items() if value is not None}
    training = {**DEFAULTS, **given}
    found = set()
    for rule in _RULES:
        for name in rule.names.split():
            asks = name in given and given[name] not in _ASKS_NOTHING.get(name, _NOTHING)
            if asks and name not in found and rule.holds(training):
                found.add(name)
                yield Ignored(name, rule)


def settle(values: dict[str, Any], level: Callable[[str], int]) -> list[GaveWay]:
    """Let what was meant least give way, in place, where settings can't all be had.

    Args:
        values: the section, its single values right.
        level: who gave a setting its value: 0 nobody or a recipe, 1 a file, 2 --set. What came from
            one level is left: it is for `ignored` to complain of.

    Returns:
        what was changed.
    """
    found: list[GaveWay] = []

    def change(name: str, new: Any, to: str) -> None:
        old = values.pop(name, None)
        if new is not None:
            values[name] = new
        found.append(GaveWay(name, old, new, f"training.{to}: {short_value(values.get(to))}"))

    for _ in range(len(values)):  # each round changes one setting, and none comes back
        for one in ignored(values):
            name, rule = one.name, one.rule
            if rule.yields and level(rule.by) < level(name):
                change(rule.by, rule.becomes, to=name)
            elif level(name) < level(rule.by):
                change(name, None, to=rule.by)
            else:
                continue
            break
        else:
            break
    _save_what_is_compared(values, level, change)
    return found


def _save_what_is_compared(
    values: Mapping[str, Any], level: Callable[[str], int], change: Callable[[str, Any, str], None]
) -> None:
    """Save at each evaluation where the best model is wanted, and nobody said when to save."""
    name = "load_best_model_at_end"
    training = {**DEFAULTS, **{key: value for key, value in values.items() if value is not None}}
    evaluates = training["eval_strategy"]
    if not training.get(name) or evaluates == "no" or training["save_strategy"] == "best":
        return
    if training["save_strategy"] != evaluates and level("save_strategy") < level(name):
        change("save_strategy", evaluates, name)
    every = training.get("eval_steps") or training["logging_steps"]
    saves = values.get("save_strategy", DEFAULTS["save_strategy"])
    is_other = evaluates == saves == "steps" and training["save_steps"] != every
    if is_other and level("save_steps") < level(name):
        change("save_steps", every, name)
