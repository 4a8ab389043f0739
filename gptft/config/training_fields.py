"""The values of a `training` section -> what is wrong with each of them.

Names and types come from a snapshot of `TrainingArguments` (training_fields.json, written by
`python -m gptft.training.fields`), so that nothing imports transformers. Under another version
unknown names are left for the check on the real class when training starts.
"""

import json
import math
import operator
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt

from gptft.config.numbers import LARGEST, LARGEST_WHOLE, MAX_SEED, as_whole, bounded
from gptft.config.settings import BOUNDS, Flag, Setting, exact, exact_whole, one_of, or_null
from gptft.config.suggest import did_you_mean
from gptft.terminal.words import short_value, wrong_value

FieldProblem = tuple[str, str]  # a field's name below `training`, and a message that follows it

# Settings of earlier transformers, and what to write today.
RENAMED = {
    "evaluation_strategy": "It is called eval_strategy now.",
    "fp16_opt_level": "Apex is gone from transformers; leave it out.",
    "group_by_length": "Blocks have one length; leave it out.",
    "half_precision_backend": "Apex is gone from transformers; leave it out.",
    "include_tokens_per_second": "gptft always logs tokens a second; leave it out.",
    "logging_dir": "Set TENSORBOARD_LOGGING_DIR in the environment.",
    "no_cuda": "It is called use_cpu now.",
    "overwrite_output_dir": "Give `gptft train` the flag --overwrite.",
    "per_gpu_eval_batch_size": "It is called per_device_eval_batch_size now.",
    "per_gpu_train_batch_size": "It is called per_device_train_batch_size now.",
    "save_safetensors": "gptft always saves safetensors; leave it out.",
    "tpu_num_cores": "The launcher decides; leave it out.",
    "use_mps_device": "An MPS device is used where there is one; leave it out.",
    "warmup_ratio": "Write it as a fraction in warmup_steps, such as 0.1.",
}

# What people write who mean another name, too far from it for difflib.
MEANT = {
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "lr": "learning_rate",
    "num_epochs": "num_train_epochs",
    "train_batch_size": "per_device_train_batch_size",
}

# Fields the class has and that would change nothing here: a setting is never ignored in silence.
WITHOUT_EFFECT = {
    "do_train": "`gptft train` always trains; leave it out.",
    "do_eval": "data.validation decides whether there is an evaluation; leave it out.",
    "do_predict": "gptft doesn't predict while training; leave it out.",
    "resume_from_checkpoint": "Give `gptft train` the flag --resume.",
    "auto_find_batch_size": "It would change what is trained; set training.auto_batch: true.",
    "enable_jit_checkpoint": "gptft always saves when it is told to end; leave it out.",
    "label_names": "The labels are the blocks themselves; leave it out.",
    "remove_unused_columns": "Blocks have one column; leave it out.",
    "length_column_name": "Blocks have one length; leave it out.",
    "include_for_metrics": "gptft measures loss and perplexity; leave it out.",
    "dataloader_persistent_workers": "Each epoch cuts the blocks anew; leave it out.",
    "dataloader_drop_last": "It would leave out text; leave it out.",
    "ignore_data_skip": "--resume continues bit for bit; leave it out.",
    "restore_callback_states_from_checkpoint": "--resume continues bit for bit; leave it out.",
    "local_rank": "The launcher sets LOCAL_RANK; leave it out.",
    "disable_tqdm": "gptft shows its own progress; leave it out.",
    "prediction_loss_only": "gptft never keeps logits; leave it out.",
    "eval_accumulation_steps": "gptft never keeps logits; leave it out.",
    "skip_memory_metrics": "gptft doesn't show them; leave it out.",
    "eval_do_concat_batches": "gptft never keeps logits; leave it out.",
    "eval_use_gather_object": "gptft never keeps logits; leave it out.",
    "batch_eval_metrics": "gptft never keeps logits; leave it out.",
    "bf16_full_eval": "gptft measures in the dtype it trains in; leave it out.",
    "fp16_full_eval": "gptft measures in the dtype it trains in; leave it out.",
}


AUTO = "auto"  # of bf16: what the machine is faster in

DEFAULT_NGRAM_SIZE = 3  # tokens of a repetition; at equal cost it does more than 4

# Settings of gptft's own, which stand beside those of the class.
OWN_FIELDS = {
    row.name: row
    for row in (
        Setting(
            "auto_batch",
            Flag,
            False,
            "Out of memory: halve the batch and double gradient_accumulation_steps.",
        ),
        Setting(
            "stop_when_memorized",
            Flag,
            False,
            "Stop when every token of the text has a probability of 0.9 or more, at the end of an "
            "epoch or after an evaluation.",
        ),
        Setting(
            "unlikelihood_weight",
            exact(Ge(0)),
            0.0,
            "How much repeating an n-gram of the document costs beside cross-entropy.",
        ),
        Setting(
            "unlikelihood_ngram_size",
            exact_whole(Ge(1), Le(10_000)),
            DEFAULT_NGRAM_SIZE,
            "How many tokens make a repetition.",
        ),
        Setting(
            "ema_decay",
            or_null(exact(Gt(0), Lt(1))),
            None,
            "How much of the moving average of the weights stays at each step, such as 0.999; what "
            "is measured and saved is the average then.",
        ),
        Setting(
            "ema_save",
            Flag,
            True,
            "With ema_decay: measure and save the average; false for the raw weights, the average "
            "beside them in the log and in checkpoints.",
        ),
        Setting(
            "average_checkpoints",
            or_null(exact_whole(Ge(2), Le(10_000))),
            None,
            "Of how many of the last checkpoints the model is the mean at the end.",
        ),
        Setting(
            "early_stopping_patience",
            or_null(exact_whole(Ge(1))),
            None,
            "After how many evaluations without improvement of held-out loss training ends.",
        ),
        Setting(
            "early_stopping_threshold",
            exact(Ge(0)),
            0.0,
            "What held-out loss must fall by more than, in nats a token, to be an improvement.",
        ),
        Setting(
            "weight_decay_end",
            or_null(exact(Ge(0))),
            None,
            "The weight decay of the last step, which weight_decay moves to from the first on.",
        ),
        Setting(
            "weight_decay_schedule",
            one_of("linear", "cosine"),
            "linear",
            "With weight_decay_end: how weight_decay moves there.",
        ),
    )
}

# Optimizers of gptft's own: each is a file in gptft/training/optimizers/ and an entry here, which
# says what can't stand beside it, and why.
OWN_OPTIMIZERS: dict[str, dict[str, str]] = {
    "muon": {
        "fsdp": "cuts matrices into shards, and muon needs whole matrices. Use adamw_torch.",
        "deepspeed": "cuts matrices into shards, and muon needs whole matrices. Use adamw_torch.",
        "optim_args": "has no effect with optim: muon. Leave it out.",
    },
}

_SHARE, _SEED = (Ge(0), Lt(1)), (Ge(0), Le(MAX_SEED))
# Ranges of the class's fields: what it takes silently and then fails on, or trains wrongly with.
_RANGES: dict[str, tuple[BaseMetadata, ...]] = {
    **dict.fromkeys(("adam_beta1", "adam_beta2"), _SHARE),
    **dict.fromkeys(("seed", "data_seed"), _SEED),
    **dict.fromkeys(("num_train_epochs", "eval_steps", "save_steps", "adam_epsilon"), (Gt(0),)),
    **dict.fromkeys(
        (
            "learning_rate",
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "logging_steps",
            "eval_delay",
            "neftune_noise_alpha",
        ),
        (Ge(0),),
    ),
    **dict.fromkeys(
        (
            "save_total_limit",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "torch_empty_cache_steps",
            "ddp_bucket_cap_mb",
            "ddp_timeout",
        ),
        (Ge(1),),
    ),
    "dataloader_prefetch_factor": (Ge(1), Le(10_000)),  # batches made ahead, by each of them
    "dataloader_num_workers": (Ge(0), Le(1024)),  # processes, a batch loader each
    "label_smoothing_factor": (Ge(0), Le(1)),
    "max_steps": (Ge(-1),),
}
_WORDS_OF_BOUNDS = dict(BOUNDS.values())

_BLOCKS_HAVE_ONE_LENGTH = "has no effect here: blocks have one length. Leave it out."
_REFUSED: dict[str, dict[int | str, str]] = {
    "max_steps": {0: "means no training at all. Leave it out to train by epochs."},
    "greater_is_better": {
        True: "is wrong of a loss and of perplexity, which are all that is measured. Leave it out."
    },
    "hub_strategy": {"end": "pushes nothing: checkpoints alone are pushed. Set every_save."},
    "train_sampling_strategy": {
        "group_by_length": _BLOCKS_HAVE_ONE_LENGTH,
        "batch_rebalance": _BLOCKS_HAVE_ONE_LENGTH,
    },
}

_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "str": str,
    "list": list,
    "dict": dict,
    "null": type(None),
}
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "null": "null",
}


@cache
def known_fields() -> tuple[str, dict[str, dict[str, Any]]]:
    """The snapshot's transformers version and its fields."""
    text = (files("gptft.config") / "training_fields.json").read_text(encoding="utf-8")
    snapshot: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return next(iter(snapshot.items()))


def snapshot_is_exact() -> bool:
    """Whether the snapshot is of the very transformers version that is installed."""
    try:
        return version("transformers") == known_fields()[0]
    except PackageNotFoundError:
        return True


def all_fields() -> dict[str, dict[str, Any]]:
    """The fields of the snapshot, with the optimizers of gptft's own among the choices."""
    fields = known_fields()[1]
    optim = fields["optim"]
    return {
        **fields,
        "optim": {**optim, "choices": sorted([*optim["choices"], *OWN_OPTIMIZERS])},
        "bf16": {"types": ["bool", "str"], "choices": [AUTO]},
    }


def without_auto(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something; `bf16: auto` is what holds without it."""
    return {name: value for name, value in values.items() if (name, value) != ("bf16", AUTO)}


def value_problems(values: Mapping[str, Any]) -> list[FieldProblem]:
    """What is wrong with single values of a `training` section.

    Returns:
        (field, message) pairs; the message follows the field's full name.
    """
    fields = all_fields()
    known = {*fields, *OWN_FIELDS}
    problems = []
    for name, value in values.items():
        problem: str | None = None
        if name in RENAMED:
            problem = f"is not a setting any more. {RENAMED[name]}"
        elif name in MEANT:
            problem = f"is not a setting. Did you mean training.{MEANT[name]}?"
        elif name in WITHOUT_EFFECT:
            problem = f"has no effect here. {WITHOUT_EFFECT[name]}"
        elif name in OWN_FIELDS:
            problem = _own_problem(OWN_FIELDS[name], value)
        elif name in fields:
            problem = _value_problem(name, value, fields[name])
        elif snapshot_is_exact():
            problem = f"is not a setting. {did_you_mean(name, known, prefix='training.')}".rstrip()
        if problem:
            problems.append((name, problem))
    return problems


def _own_problem(setting: Setting, value: Any) -> str | None:
    try:
        setting.read(value)
    except ValueError as error:
        return str(error)
    return None


def _value_problem(name: str, value: Any, entry: Mapping[str, Any]) -> str | None:
    choices = entry.get("choices")
    if not any(_is(value, type_name) for type_name in entry["types"]):
        words = {**_WORDS, **({"str": " or ".join(choices)} if choices == [AUTO] else {})}
        wanted = " or ".join(words[type_name] for type_name in entry["types"])
        return f"must be {wanted}, not {wrong_value(value)}."
    if isinstance(value, int | str) and (refused := _REFUSED.get(name, {}).get(value)):
        return f"{short_value(value)} {refused}"
    if isinstance(value, str) and choices and value not in choices:
        hint = did_you_mean(value, choices) or f"Take one of {', '.join(choices)}."
        return f"can't be {wrong_value(value)}. {hint}"
    if not isinstance(value, int | float):
        return None
    # A whole number of YAML has no limit.
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "must be a finite number, and this one is beyond what a computer holds."
    if not math.isfinite(value):
        return f"must be a finite number, not {value}."
    bound: Any
    for bound in field_bounds(name, entry):
        ((key, limit),) = asdict(bound).items()
        if not getattr(operator, key)(value, limit):
            return f"must be {_WORDS_OF_BOUNDS[key]} {limit:,.15g}, not {wrong_value(value)}."
    return None


def field_bounds(name: str, entry: Mapping[str, Any]) -> tuple[BaseMetadata, ...]:
    """The bounds of a field of the class that is a number: its own, and what no number is beyond.

    Args:
        name: of the field.
        entry: what the snapshot says of it.
    """
    largest = LARGEST if "float" in entry["types"] else LARGEST_WHOLE
    return bounded(*_RANGES.get(name, ()), largest=largest)


def as_meant(values: Mapping[str, Any]) -> dict[str, Any]:
    """A `training` section with whole numbers, also where they were written as 8.0 or 1e3.

    >>> as_meant({"max_steps": 1e3, "learning_rate": 1.0})
    {'max_steps': 1000, 'learning_rate': 1.0}
    """
    fields = known_fields()[1]
    whole = {name for name, entry in fields.items() if _is_whole_field(entry)}
    whole |= {name for name, row in OWN_FIELDS.items() if row.kind.name == "int"}
    return {name: as_whole(value) if name in whole else value for name, value in values.items()}


def _is_whole_field(entry: Mapping[str, Any]) -> bool:
    return "int" in entry["types"] and "float" not in entry["types"]


def _is(value: Any, type_name: str) -> bool:
    if isinstance(value, bool):
        return type_name == "bool"
    if type_name == "int":
        value = as_whole(value)
    return isinstance(value, _PYTHON_TYPES[type_name])
