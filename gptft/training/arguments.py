"""The `training` section -> `TrainingArguments`, with gptft's defaults under it.

Defaults of ours are those that lose or hide something in the stock Trainer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from gptft.config.suggest import did_you_mean
from gptft.config.training_conflicts import conflicts
from gptft.config.training_fields import OWN_FIELDS, OWN_OPTIMIZERS
from gptft.config.training_needs import SLOW_BFLOAT16, unmet_needs
from gptft.errors import ConfigError
from gptft.models.precision import DtypeName, has_native_bfloat16, pick_device
from gptft.training.fields import describe_fields

_LOGS_A_RUN = 50  # a line in the log every fiftieth of the run, where nothing else is asked


def training_arguments(
    training: Mapping[str, Any], *, run_dir: Path, has_validation: bool, dtype: DtypeName
) -> TrainingArguments:
    """Build the arguments of a run.

    Args:
        training: fields of `TrainingArguments` by their own names.
        run_dir: the run folder; checkpoints go below it.
        has_validation: whether there is a validation part.
        dtype: `model.dtype` of the config.

    Raises:
        ConfigError: a field the installed transformers doesn't have, a combination it refuses, or
            an evaluation without a validation part.
    """
    problems = conflicts(training, has_validation=has_validation) + unmet_needs(training)
    if problems:
        raise ConfigError(*(f"training.{name} {message}" for name, message in problems))
    training = {name: value for name, value in training.items() if name not in OWN_FIELDS}
    _check_names(training)
    device = pick_device(use_cpu=bool(training.get("use_cpu", False)))
    has_bfloat16 = has_native_bfloat16(device)
    if device.type == "cpu" and training.get("bf16"):
        if not has_bfloat16:
            raise ConfigError(f"training.bf16 {SLOW_BFLOAT16}")
        training["use_cpu"] = True  # else transformers takes bf16 for a GPU's
    ours: dict[str, Any] = {
        "logging_steps": 1 / _LOGS_A_RUN,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "dataloader_pin_memory": device.type == "cuda",
        "ddp_find_unused_parameters": False,
        "log_level_replica": "error",
        # Loss and perplexity are all that is measured; transformers takes an unknown metric for one
        # that should rise.
        "greater_is_better": False,
    }
    if device.type == "cuda" and dtype == "auto" and not training.get("fp16"):
        ours["bf16"] = has_bfloat16
    fixed = {
        "output_dir": str(run_dir / "checkpoints"),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        # Workers that live on would measure and train on the blocks of the epoch they began in.
        "dataloader_persistent_workers": False,
    }
    for name in ("adam_beta1", "adam_beta2"):  # torch (2.13) takes no 0 for 0.0 there
        if name in training:
            training[name] = float(training[name])
    own_optimizer = training.get("optim") in OWN_OPTIMIZERS
    if own_optimizer:  # not one of the class's own: `make_optimizer` makes it
        optim = training.pop("optim")
    try:
        args = TrainingArguments(**{**ours, **training, **fixed})
    except (ValueError, TypeError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"training: transformers refuses these settings: {reason}") from None
    if own_optimizer:
        args.optim = optim
    return args


def _check_names(training: Mapping[str, Any]) -> None:
    fields = describe_fields()
    problems = [
        f"training.{name} is not a setting of the installed transformers. "
        f"{did_you_mean(name, fields, prefix='training.')}".rstrip()
        for name in training
        if name not in fields
    ]
    if problems:
        raise ConfigError(*problems)
