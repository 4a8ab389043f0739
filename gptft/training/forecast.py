"""A run that is set up -> what it will take, said at its start, and beside that what it took.

By formulas, which cost nothing; `gptft plan` counts and measures.
"""

from collections.abc import Mapping
from typing import Any

from gptft.models.anatomy import Anatomy, read_anatomy
from gptft.models.dropout import rates
from gptft.models.free_memory import free_memory, peak_memory, resident_memory
from gptft.models.training_memory import kept_of_token, logits_bytes
from gptft.terminal.words import bytes_text, count
from gptft.training.setup import Setup

# Bytes of an optimizer's state for a weight, where they aren't AdamW's two moments in float32.
_STATES = {"adafactor": 0, "sgd": 0, "lion_32bit": 4, "adagrad": 4, "rmsprop": 4}
_MOMENTS, _IN_8_BITS = 8, 2
_MATRIX = 4  # Muon's one moment of a layer's weights
# What an adapter's backward pass takes beside what its layers keep, and what the allocator can't
# fill: both measured (docs/experiments.md).
_OF_ADAPTER, _HOLES = 1.5, 1.25


def forecast(setup: Setup) -> dict[str, Any]:
    """How long a run is, and its memory at most, for run.json.

    Args:
        setup: of the run, whose model is loaded and not yet trained.

    Returns:
        steps, epochs, tokens_a_step, and peak_bytes: of the whole process on a CPU, None where no
        formula holds.
    """
    args = setup.trainer.args
    steps, epochs = setup.length()
    batch = args.per_device_train_batch_size * setup.store.block_size
    tokens = batch * args.gradient_accumulation_steps * args.world_size
    found = {"steps": steps, "epochs": epochs, "tokens_a_step": tokens}
    return {**found, "peak_bytes": _peak(setup, tokens=batch)}


def forecast_words(found: Mapping[str, Any]) -> str:
    """That in a line."""
    said = (
        f"{count(found['steps'], 'step')} of {found['tokens_a_step']:,} tokens, "
        f"{found['epochs']:,.3g} {'epoch' if found['epochs'] == 1 else 'epochs'}"
    )
    if (peak := found["peak_bytes"]) is None:
        return f"{said}."
    free = free_memory()
    room = None if free is None else free + (resident_memory() or 0)
    said += f"; about {bytes_text(peak)} of memory"
    if room is None or peak <= room:
        return f"{said}."
    return f"{said}, of which {bytes_text(room)} are free: gptft plan says what to change."


def with_real(found: object, *, seconds: float) -> dict[str, Any]:
    """What was forecast and what it came to, for run.json; a run resumed keeps its first forecast.

    Args:
        found: what run.json has of the forecast.
        seconds: that training took.
    """
    predicted = found.get("predicted") if isinstance(found, Mapping) else None
    return {"predicted": predicted, "real": {"peak_bytes": peak_memory(), "seconds": seconds}}


def _peak(setup: Setup, *, tokens: int) -> int | None:
    """The most memory of the process, in bytes, with so many tokens in a batch."""
    args, model = setup.trainer.args, setup.model
    held = resident_memory()
    anatomy = read_anatomy(model.config.to_dict(), {})
    kept = kept_of_token(anatomy, is_mixed=args.bf16)
    is_other = args.gradient_checkpointing or any(rates(model.config.to_dict()).values())
    if args.device.type != "cpu" or held is None or kept is None or is_other:
        return None
    trained = [one for one in model.parameters() if one.requires_grad]
    moving = sum(
        one.nbytes + _state(args.optim, is_matrix=one.dim() == 2) * one.numel() for one in trained
    )
    if setup.trainer.kept.average is not None:
        moving += 4 * sum(one.numel() for one in trained)
    if args.bf16:  # copies of the weights that layers multiply by
        moving += 2 * setup.num_parameters
    of_batch = kept * tokens * (_OF_ADAPTER if setup.trainer.lora is not None else 1)
    return int(held + _HOLES * (moving + of_batch + _logits(anatomy, tokens)))


def _logits(anatomy: Anatomy, tokens: int) -> int:
    return logits_bytes(anatomy, num_tokens=tokens) or 0


def _state(optimizer: str, *, is_matrix: bool) -> int:
    """Bytes of an optimizer's state for a weight."""
    name = str(getattr(optimizer, "value", optimizer))
    if "8bit" in name:
        return _IN_8_BITS
    if name == "muon" and is_matrix:
        return _MATRIX
    return _STATES.get(name, _MOMENTS)
