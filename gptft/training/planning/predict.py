"""A config and its blocks -> what a run will take, found out without memory for its model."""

from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from gptft.config.sections import Config
from gptft.data.store import BlockStore, read_ledger
from gptft.errors import GptftError
from gptft.runs.plan_sizes import Length, Sizes
from gptft.training.arguments import training_arguments
from gptft.training.planning.length import length_of
from gptft.training.planning.outline import outline
from gptft.training.planning.sizes import run_sizes
from gptft.training.setup import are_masked


@dataclass(frozen=True)
class Predicted:
    """What decides a run's memory and time.

    Attributes:
        length: of the run.
        sizes: of its model and batch; None where its model can't be outlined.
        is_mixed: whether its layers compute in bfloat16.
        unknown: what couldn't be found out, and why, a sentence each.
    """

    length: Length
    sizes: Sizes | None
    is_mixed: bool
    unknown: tuple[str, ...] = ()


def predict(config: Config, *, store_dir: Path, run_dir: Path, libraries: int) -> Predicted:
    """What a run will take.

    Args:
        config: already checked.
        store_dir: its blocks.
        run_dir: where it would go.
        libraries: bytes that the process has before the model.

    Raises:
        ConfigError: its settings don't go together.
    """
    ledger = read_ledger(store_dir) or {}
    args = training_arguments(
        config.training, run_dir=run_dir, has_validation=bool(ledger.get("validation_documents")),
        dtype=config.model.dtype, block_size=BlockStore(store_dir).block_size,
    )  # fmt: skip
    return predict_run(config, args, store_dir=store_dir, libraries=libraries)


def predict_run(
    config: Config, args: TrainingArguments, *, store_dir: Path, libraries: int
) -> Predicted:
    """What a run with these arguments will take; see `predict`."""
    ledger, store = read_ledger(store_dir) or {}, BlockStore(store_dir)
    has_validation = bool(ledger.get("validation_documents"))
    validation = BlockStore(store_dir, split="validation").num_tokens if has_validation else 0
    length = length_of(
        args, num_blocks=len(store), num_tokens=store.num_tokens, validation_tokens=validation
    )
    try:
        outlined = outline(config, args, ledger=ledger)
    except GptftError:
        raise
    except Exception as error:  # transformers, peft and torch raise a dozen types
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Predicted(
            length, None, args.bf16, (f"Its model can't be built without memory: {why}",)
        )
    sizes, why_not = run_sizes(
        config, args, outlined, block_size=store.block_size,
        is_isolated=are_masked(config, ledger), libraries=libraries,
    )  # fmt: skip
    said = f"What its batches take isn't known without a step: {why_not}"
    return Predicted(length, sizes, args.bf16, () if why_not is None else (said,))
