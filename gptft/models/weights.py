"""Weights that were read -> why they can't be used, and what of their file isn't."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.terminal.words import count

# Buffers that older transformers saved and newer ones compute.
_COMPUTED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".position_ids")


def check_finite(model: PreTrainedModel, *, name: str) -> None:
    """Refuse weights that are not numbers: each loss would be none either.

    Raises:
        ModelError: one is NaN or infinite.
    """
    for place, weight in model.named_parameters():
        if weight.is_meta or not weight.is_floating_point() or not weight.numel():
            continue
        low, high = weight.detach().aminmax()  # NaN comes out of either; nothing is copied
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            continue
        number = count(int((~torch.isfinite(weight)).sum()), "value")
        dtype = str(weight.dtype).removeprefix("torch.")
        raise ModelError(
            f"{name}: its weight {place} holds {number} of {weight.numel():,} that are NaN or "
            f"infinite in {dtype}. The file is damaged, its training diverged, or {dtype} is too "
            "narrow for it. Take another checkpoint, or float32."
        )


def unused_notice(unused: Iterable[str], *, name: str) -> str | None:
    """What to say of weights in a model's file that its config has no place for."""
    names = sorted(key for key in unused if not key.endswith(_COMPUTED))
    if not names:
        return None
    return (
        f"{name}: {count(len(names), 'weight')} of its file not used, {names[0]} for one: its "
        "config asks for a smaller model, or one without that part."
    )
