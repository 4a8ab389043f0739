"""The `training` section -> `TrainingArguments`, with gptft's defaults under it.

Defaults of ours are those that lose or hide something in the stock Trainer.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from gptft.config.suggest import did_you_mean
from gptft.config.training_conflicts import conflicts
from gptft.config.training_fields import OWN_FIELDS, OWN_OPTIMIZERS, without_auto
from gptft.config.training_needs import FSDP_ON_CPU, SLOW_BFLOAT16, unmet_needs
from gptft.errors import ConfigError
from gptft.models.precision import DtypeName, has_native_bfloat16, pick_device
from gptft.training.fields import describe_fields
from gptft.training.mixed_precision import agree, is_open, mixed_precision

_LOGS_A_RUN = 50  # a line in the log every fiftieth of the run, where nothing else is asked
_TOKENS_ON_CPU, _TOKENS_ELSEWHERE = 1024, 16_384  # measured at a time: enough to keep it busy
_STOCK_BATCH = TrainingArguments.per_device_train_batch_size


def training_arguments(
    training: Mapping[str, Any],
    *,
    run_dir: Path,
    has_validation: bool,
    dtype: DtypeName,
    block_size: int,
) -> TrainingArguments:
    """Build the arguments of a run.

    Args:
        training: fields of `TrainingArguments` by their own names.
        run_dir: the run folder; checkpoints go below it.
        has_validation: whether there is a validation part.
        dtype: `model.dtype` of the config.
        block_size: tokens of a block.

    Raises:
        ConfigError: a field the installed transformers doesn't have, a combination it refuses, or
            an evaluation without a validation part.
    """
    if problems := conflicts(training, has_validation=has_validation) + unmet_needs(training):
        raise ConfigError(*(f"training.{name} {message}" for name, message in problems))
    stops_early = training.get("early_stopping_patience") is not None
    given, own = training, OWN_FIELDS
    training = without_auto({name: given[name] for name in given if name not in own})
    _check_names(training)
    device = pick_device(use_cpu=bool(training.get("use_cpu", False)))
    machine_decides = is_open(training, dtype)
    if machine_decides:
        training |= mixed_precision(given, device)
    num_processes = _settle_device(training, device)
    ours = _defaults(training, device, block_size)
    if stops_early and training.get("save_strategy") != "no":
        ours["metric_for_best_model"] = "loss"  # so that the best checkpoint isn't rotated away
    fixed = {
        "output_dir": str(run_dir / "checkpoints"),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        # Workers that live on would measure and train on the blocks of the epoch they began in.
        "dataloader_persistent_workers": False,
    }
    training = _with_floats(training)
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
    if args.world_size != num_processes:
        why = f"{num_processes} processes were started, and on {device.type} each would train alone"
        raise ConfigError(f"{why}. Set training.use_cpu: true, or start one.")
    if machine_decides:
        agree(args)
    return args


def _defaults(training: Mapping[str, Any], device: torch.device, block_size: int) -> dict[str, Any]:
    """What holds where the section says nothing else."""
    return {
        "logging_steps": 1 / _LOGS_A_RUN,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "dataloader_pin_memory": device.type == "cuda",
        "ddp_find_unused_parameters": False,
        "log_level_replica": "error",
        "per_device_eval_batch_size": _blocks_measured(training, device, block_size),
        # Loss and perplexity are all that is measured; transformers takes an unknown metric for one
        # that should rise.
        "greater_is_better": False,
    }


def _blocks_measured(training: Mapping[str, Any], device: torch.device, block_size: int) -> int:
    """Blocks that are measured at a time: the tokens of a step, or few enough to cost no memory."""
    blocks = int(training.get("per_device_train_batch_size") or _STOCK_BATCH)
    fewest = _TOKENS_ON_CPU if device.type == "cpu" else _TOKENS_ELSEWHERE
    return max(blocks, fewest // block_size)


def _with_floats(training: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with 0 written as 0.0 where a float is meant: torch (2.13) takes no other.

    Steps (warmup_steps: 3) stay what they are, and a checkpoint remembers them so.
    """
    floats = {name for name, entry in describe_fields().items() if "float" in entry["types"]}
    return {
        name: float(value)
        if name in floats and isinstance(value, int) and not name.endswith("_steps")
        else value
        for name, value in training.items()
    }


def _settle_device(training: dict[str, Any], device: torch.device) -> int:
    """Set `use_cpu` where transformers needs it; how many processes the run is to have."""
    is_cpu, is_launched = device.type == "cpu", "LOCAL_RANK" in os.environ
    if is_cpu and training.get("bf16") and not has_native_bfloat16(device):
        raise ConfigError(f"training.bf16 {SLOW_BFLOAT16}")
    if device.type in ("cpu", "mps") and training.get("fsdp"):
        raise ConfigError(f"training.fsdp {FSDP_ON_CPU}")
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes > 1 and not is_launched:
        raise ConfigError(
            f"WORLD_SIZE is {num_processes}, and no launcher has set LOCAL_RANK. Start the "
            "processes by torchrun, or unset WORLD_SIZE."
        )
    if is_cpu and (training.get("bf16") or is_launched):
        # Else transformers takes bf16 for a GPU's, and lets processes join only on GPUs: each would
        # be a run of its own, in the same folder.
        training["use_cpu"] = True
    return num_processes


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
