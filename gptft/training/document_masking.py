"""Token ids -> positions by which packed documents are masked; a model -> whether its masks do so.

transformers masks by positions only where there is no attention mask and no cache (5.23,
`masking_utils._preprocess_mask_arguments`), and only in models that pass the positions on: OPT and
BLOOM don't, and give no warning.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.models.causal_probe import SEES, rounding, with_noise
from gptft.models.load import context_of

_LENGTH = 128  # tokens of the probe, where the context allows
_LONGEST = 1024  # of a probe that has to reach beyond a sliding window


def restarting_positions(
    input_ids: torch.Tensor, eos_token_id: int, bos_token_id: int | None = None
) -> torch.Tensor:
    """Places within each document: 0 at the start of a block and of each document after an EOS.

    Args:
        input_ids: int64 of shape (B, T), blocks of documents that each end with EOS.
        eos_token_id: that EOS; it occurs nowhere else, but where it is BOS as well.
        bos_token_id: what each document begins with; None where nothing does.

    Returns:
        int64 of shape (B, T), on the device of `input_ids`.

    >>> restarting_positions(torch.tensor([[5, 6, 0, 7, 0, 8]]), 0).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    is_start = input_ids[:, :-1] == eos_token_id
    if bos_token_id is not None:  # of two EOS in a row the second begins a document
        is_start &= input_ids[:, 1:] == bos_token_id
    starts = torch.zeros_like(input_ids)
    starts[:, 1:] = torch.where(is_start, place[:, 1:], 0)
    return place - starts.cummax(dim=1).values


@dataclass(frozen=True)
class MaskingProbe:
    """What the probe measured.

    Attributes:
        difference: the largest between a logit of a packed document and of the same one alone.
        tolerance: the most that rounding explains.
        influence: the largest difference another first document makes to the second's logits where
            positions don't start again; what a leak could show at most.
    """

    difference: float
    tolerance: float
    influence: float


def check_document_masking(model: PreTrainedModel, *, name: str) -> MaskingProbe:
    """Refuse a model that lets packed documents see each other though their positions start again.

    Random documents are run alone and packed as training packs them, without a mask or a cache, one
    row and several, on the model's device and in its dtype. Where the first document hardly matters
    to the second even without masking, the weights can't show a leak (an output projection that
    starts at zero, a coarse dtype), and a float32 copy with noise on its weights is run instead.

    Args:
        model: to be probed; its mode and the random state are left as they were.
        name: what a message calls it.

    Raises:
        ModelError: documents see each other, or the model takes no positions.
    """
    found = _refuse_leak(_probe(model, name=name), model, name=name)
    if found.influence < SEES * found.tolerance:
        found = _refuse_leak(_probe(with_noise(model), name=name), model, name=name)
    return found


def _refuse_leak(found: MaskingProbe, model: PreTrainedModel, *, name: str) -> MaskingProbe:
    if not found.difference <= found.tolerance:  # said so that NaN is refused too
        raise ModelError(
            f"{name} ({model.config.model_type}) can't keep the documents of a block apart: packed "
            f"ones differ from the same alone by up to {found.difference:.2g} in their logits, "
            f"where rounding explains {found.tolerance:.1g}. Use data.isolate_documents: false."
        )
    return found


def _probe(model: PreTrainedModel, *, name: str) -> MaskingProbe:
    """Run random documents alone, packed with restarting positions, and packed with plain ones."""
    length = _probe_length(model)
    short = max(1, length // 3)
    generator = torch.Generator().manual_seed(0)
    num_ids = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    first, other, second = (
        torch.randint(num_ids, (size,), generator=generator)
        for size in (short, short, length - short)
    )
    pairs = [(first, second), (other, second), (second, first)]
    rows = torch.stack([torch.cat(pair) for pair in pairs])  # (3, length)
    plain = torch.arange(length).expand_as(rows)
    restarting = torch.stack([torch.cat([plain[0, : len(d)] for d in pair]) for pair in pairs])
    was_training = model.training
    model.eval()
    try:
        alone = torch.stack(
            [
                torch.cat([_logits(model, d[None], plain[:1, : len(d)])[0] for d in pair])
                for pair in pairs
            ]
        )  # (3, length, V)
        one_row = _logits(model, rows[:1], restarting[:1]) - alone[:1]
        all_rows = _logits(model, rows, restarting) - alone
        seen = _logits(model, rows, plain)[:, short:]
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{name} ({model.config.model_type}) can't be given the places of packed documents "
            f"({reason}). Use data.isolate_documents: false."
        ) from None
    finally:
        model.train(was_training)
    return MaskingProbe(
        difference=float(torch.cat([one_row, all_rows]).abs().max()),
        tolerance=rounding(model) * float((alone - alone.mean(-1, keepdim=True)).abs().max()),
        influence=float((seen[0] - seen[1]).abs().max()),
    )


def _logits(model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of shape (B, T, V) in float32, on the CPU."""
    device = model.device
    with torch.no_grad():
        output = model(input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False)
    logits: torch.Tensor = output.logits.float().cpu()
    return logits


def _probe_length(model: PreTrainedModel) -> int:
    """Tokens of two documents: beyond a sliding window if that is short, within the context."""
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 0
    wanted = min(max(_LENGTH, 2 * int(window)), _LONGEST)
    return min(wanted, context_of(model) or wanted)
