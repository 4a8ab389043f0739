"""Which settings `training:` takes, checked without importing transformers.

In: the section's plain values. Out: problems in words. The names and types come from a snapshot of
`TrainingArguments` (training_fields.json, written by `python -m gptft.training.fields`), keyed by
version; under another version unknown names are left for the check on the real class when training
starts.
"""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from gptft.config.suggest import did_you_mean
from gptft.terminal.words import wrong_value

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
    "ignore_data_skip": "--resume goes on bit for bit; leave it out.",
    "restore_callback_states_from_checkpoint": "--resume goes on bit for bit; leave it out.",
    "local_rank": "The launcher sets LOCAL_RANK; leave it out.",
    "disable_tqdm": "gptft shows its own progress; leave it out.",
    "prediction_loss_only": "gptft never keeps logits; leave it out.",
    "eval_accumulation_steps": "gptft never keeps logits; leave it out.",
    "eval_do_concat_batches": "gptft never keeps logits; leave it out.",
    "eval_use_gather_object": "gptft never keeps logits; leave it out.",
    "batch_eval_metrics": "gptft never keeps logits; leave it out.",
}

# Settings of gptft's own, which stand beside those of the class.
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "auto_batch": {"types": ["bool"]},  # out of memory: halve the batch, double the accumulation
    "unlikelihood_weight": {"types": ["float"]},  # of repetitions, beside cross-entropy
    "unlikelihood_ngram_size": {"types": ["int"]},  # tokens of a repetition
}

DEFAULT_NGRAM_SIZE = 3  # tokens of a repetition; at equal cost it does more than 4

# Optimizers of gptft's own, each a file in gptft/training/optimizers/, and what can't stand beside
# one, and why.
OWN_OPTIMIZERS: dict[str, dict[str, str]] = {
    "muon": {
        "fsdp": "needs whole matrices, and this cuts them into shards. Take optim: adamw_torch.",
        "deepspeed": "needs whole matrices, and this cuts them into shards. Take adamw_torch.",
        "optim_args": "takes none. Leave it out.",
    },
}
# Choices of gptft's own among those of the class.
_OWN_CHOICES = {"optim": tuple(OWN_OPTIMIZERS)}

# What the class takes without a word and then fails on, or silently trains wrongly with.
_AT_LEAST = {
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "logging_steps": 0,
    "save_total_limit": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "seed": 0,
    "data_seed": 0,
    "max_steps": -1,
    "unlikelihood_weight": 0,
    "unlikelihood_ngram_size": 1,
}
_AT_MOST = {"seed": 2**32 - 1, "data_seed": 2**32 - 1}
_BELOW = {"adam_beta1": 1, "adam_beta2": 1}
_REFUSED: dict[str, dict[int | str, str]] = {
    "max_steps": {0: "means no training at all. Leave it out to train by epochs."},
    "train_sampling_strategy": {
        "group_by_length": "has no effect here: blocks have one length. Leave it out.",
        "batch_rebalance": "has no effect here: blocks have one length. Leave it out.",
    },
}
_ABOVE = {"num_train_epochs": 0, "eval_steps": 0, "save_steps": 0, "adam_epsilon": 0}

# What takes the loss out of gptft's hands.
_OTHER_LOSSES = {
    "fp16": "its loss is scaled, and bf16's is not.",
    "label_smoothing_factor": "it puts a loss of its own in place.",
    "use_liger_kernel": "it puts a loss of its own in place.",
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
    """The fields of the snapshot and gptft's own, with all their choices."""
    fields = {**known_fields()[1], **OWN_FIELDS}
    for name, choices in _OWN_CHOICES.items():
        entry = fields[name]
        fields[name] = {**entry, "choices": sorted([*entry["choices"], *choices])}
    return fields


def training_problems(values: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a `training` section.

    Returns:
        (field, message) pairs; the message goes on from the field's full name.
    """
    fields = all_fields()
    problems = []
    for name, value in values.items():
        problem: str | None = None
        if name in RENAMED:
            problem = f"is not a setting any more. {RENAMED[name]}"
        elif name in MEANT:
            problem = f"is not a setting. Did you mean training.{MEANT[name]}?"
        elif name in WITHOUT_EFFECT:
            problem = f"has no effect here. {WITHOUT_EFFECT[name]}"
        elif name in fields:
            problem = _value_problem(name, value, fields[name])
        elif snapshot_is_exact():
            problem = f"is not a setting. {did_you_mean(name, fields, prefix='training.')}".rstrip()
        if problem:
            problems.append((name, problem))
    return problems or _unlikelihood_problems(values)


def _unlikelihood_problems(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the loss is none that an unlikelihood could be added to, or there is none to add."""
    if not values.get("unlikelihood_weight"):
        if "unlikelihood_ngram_size" in values:
            why = "has no effect without training.unlikelihood_weight. Set that, or leave it out."
            return [("unlikelihood_ngram_size", why)]
        return []
    return [
        (name, f"can't go together with training.unlikelihood_weight: {why} Leave one of them out.")
        for name, why in _OTHER_LOSSES.items()
        if values.get(name)
    ]


def _value_problem(name: str, value: Any, entry: dict[str, Any]) -> str | None:
    if not any(_is(value, type_name) for type_name in entry["types"]):
        wanted = " or ".join(_WORDS[type_name] for type_name in entry["types"])
        return f"must be {wanted}, not {wrong_value(value)}."
    refused = _REFUSED.get(name, {})
    if isinstance(value, int | str) and value in refused:
        return f"{value} {refused[value]}"
    choices = entry.get("choices")
    if isinstance(value, str) and choices and value not in choices:
        hint = did_you_mean(value, choices) or f"Take one of {', '.join(choices)}."
        return f"can't be {wrong_value(value)}. {hint}"
    if isinstance(value, int | float):
        if name in _AT_LEAST and not value >= _AT_LEAST[name]:
            return f"must be at least {_AT_LEAST[name]}, not {value}."
        if name in _ABOVE and not value > _ABOVE[name]:
            return f"must be above {_ABOVE[name]}, not {value}."
        if name in _AT_MOST and not value <= _AT_MOST[name]:
            return f"must be at most {_AT_MOST[name]}, not {value}."
        if name in _BELOW and not 0 <= value < _BELOW[name]:
            return f"must be at least 0 and below {_BELOW[name]}, not {value}."
        if value in (float("inf"), float("-inf")):
            return f"must be a finite number, not {value}."
    return None


def _is(value: Any, type_name: str) -> bool:
    if isinstance(value, bool):
        return type_name == "bool"
    return isinstance(value, _PYTHON_TYPES[type_name])
