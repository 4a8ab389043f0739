"""The fingerprints of a run and of its continuation -> the differences, or an error naming them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.config.suggest import did_you_mean
from gptft.config.training_fields import OWN_OPTIMIZERS
from gptft.errors import ConfigError

Fingerprint = Mapping[str, Any]

# Fields of TrainingArguments that leave the weights as they would be, bit for bit.
NEUTRAL = frozenset(
    {
        "output_dir", "disable_tqdm", "report_to", "run_name", "project", "resume_from_checkpoint",
        "do_train", "do_eval", "do_predict", "load_best_model_at_end", "metric_for_best_model",
        "greater_is_better", "per_device_eval_batch_size", "eval_accumulation_steps",
        "prediction_loss_only", "include_num_input_tokens_seen", "skip_memory_metrics",
        "local_rank", "ddp_timeout", "ddp_backend", "remove_unused_columns", "auto_find_batch_size",
        "restore_callback_states_from_checkpoint", "enable_jit_checkpoint",
        # Not all of dataloader_*: with drop_last an epoch lacks its last batch.
        "dataloader_multiprocessing_context", "dataloader_num_workers", "dataloader_pin_memory",
        "dataloader_persistent_workers", "dataloader_prefetch_factor",
    }
)  # fmt: skip
_NEUTRAL_PREFIXES = ("logging_", "log_", "trackio_", "save_", "hub_", "push_to_hub", "_")
_COMMIT = "model.commit"  # of a base of the hub
_STEPS, _EPOCHS = _TARGETS = ("training.max_steps", "training.num_train_epochs")


@dataclass(frozen=True)
class Change:
    """A difference that the user allowed."""

    field: str
    old: Any
    new: Any


def decides(name: str) -> bool:
    """Whether a field of TrainingArguments decides the weights.

    >>> decides("learning_rate"), decides("eval_steps"), decides("logging_steps")
    (True, True, False)
    """
    return name not in NEUTRAL and not name.startswith(_NEUTRAL_PREFIXES)


def require_training_state(checkpoint: Path, *, num_left: int) -> None:
    """Refuse a checkpoint of a model alone: optimizer, schedule and draws would begin anew.

    Args:
        checkpoint: its folder.
        num_left: steps that are to follow; where there are none the model is all it takes.

    Raises:
        ConfigError: as said.
    """
    if num_left > 0 and not any(
        checkpoint.glob("rng_state*.pth")
    ):  # which every other checkpoint has
        raise ConfigError(
            f"{checkpoint} was saved with training.save_only_model: it holds no optimizer, no "
            "schedule and no random state, and no run can be resumed from it. Begin again without "
            "that setting (--overwrite replaces the run)."
        )


def agreed_changes(
    old: Fingerprint, new: Fingerprint, *, allow: Sequence[str], extend: bool
) -> list[Change]:
    """The differences between two fingerprints, if each of them is allowed.

    Args:
        old: of the run as it began.
        new: of the run as it would continue.
        allow: fields that may differ, by their full name or its last part.
        extend: whether more steps or epochs may be asked for.

    Raises:
        ConfigError: something differs that isn't allowed, or `allow` names no field.
    """
    fields = sorted({*old, *new})
    allowed = {field for name in allow for field in _fields_named(name, fields)}
    changes = [
        Change(field, old.get(field), new.get(field))
        for field in fields
        if old.get(field) != new.get(field) and not (field == _EPOCHS and _go_by_steps(old, new))
    ]
    problems = []
    for change in changes:
        if change.field == "training.optim" and {change.old, change.new} & OWN_OPTIMIZERS.keys():
            problems.append(
                f"training.optim was {change.old} and is {change.new} now, which groups parameters "
                "in another way, so that the checkpoint's optimizer state doesn't fit. Put it back."
            )
        elif change.field == "model.freeze":
            problems.append(
                f"model.freeze was {_shown(change.old)} and is {_shown(change.new)} now: other "
                "weights are trained, for which the checkpoint has no optimizer state. Put it back."
            )
        elif change.field in _TARGETS and extend:
            if not _is_more(change):
                problems.append(
                    f"{change.field} was {change.old} and is {change.new} now: --extend trains "
                    "further, not less."
                )
        elif change.field not in allowed:
            is_target = change.field in _TARGETS
            way_out = "--extend" if is_target else f"--allow-change {change.field}"
            back = "Put it back"
            if change.field == _COMMIT and change.old:  # main, say, is another one by now
                back += f" (--set model.revision={change.old})"
            problems.append(
                f"{change.field} was {_shown(change.old)} and is {_shown(change.new)} now. "
                f"{back}, or resume with {way_out}."
            )
    if problems:
        raise ConfigError(*problems)
    return changes


def _fields_named(name: str, fields: Sequence[str]) -> list[str]:
    found = [field for field in fields if field == name or field.rpartition(".")[2] == name]
    if not found:
        hint = did_you_mean(name, fields) or f"Known: {', '.join(fields[:8])}, ..."
        raise ConfigError(f"--allow-change {name} is no field of the fingerprint. {hint}")
    return found


def _go_by_steps(*fingerprints: Fingerprint) -> bool:
    """Whether in one of them the epochs say nothing of how long the run is."""
    return any(int(one.get(_STEPS) or -1) > 0 for one in fingerprints)


def _is_more(change: Change) -> bool:
    """Whether a number of steps or epochs grew; -1 steps are none said."""
    try:
        return float(change.new) > float(change.old) or float(change.new) < 0
    except (TypeError, ValueError):
        return False


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
