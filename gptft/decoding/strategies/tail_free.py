"""Tail-free sampling: tokens before the sorted probabilities flatten out."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor

_FLAT = 1e-6  # second differences that sum to less than this are rounding


def tail_free_keeps(logits: "Tensor", *, tfs_z: float) -> "Tensor":
    """Which tokens come before the sorted probabilities flatten out.

    The second differences of the sorted probabilities, absolute and divided by their sum, are added
    up from the likeliest token on. A token is cut where those up to the one centred on it exceed
    `tfs_z`. The first token has none and is kept; the last has none and counts as 1. Where there
    are no second differences to speak of (fewer than 3 tokens, or all alike) nothing is cut.

    Args:
        logits: shape (B, V).
        tfs_z: above 0, at most 1; at 1 nothing is cut.

    Returns:
        shape (B, V), bool.

    Source: Phénix and Egan 2019, Tail Free Sampling; centred as in text-generation-webui, where
    llama.cpp cuts a token earlier.

    >>> import torch
    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()  # differences 0.05, 0.05: 0.5, 1
    >>> tail_free_keeps(logits, tfs_z=0.6).tolist()
    [[True, True, False, False]]
    """
    import torch

    order = logits.argsort(dim=-1, descending=True, stable=True)
    probs = logits.softmax(-1).gather(-1, order)  # (B, V), falling
    bends = probs.diff(n=2).abs()  # (B, V - 2), the first one centred on the second token
    num_bends = (logits > float("-inf")).sum(-1, keepdim=True) - 2  # (B, 1)
    bends = bends.where(torch.arange(bends.shape[-1], device=logits.device) < num_bends, 0.0)
    total = bends.sum(-1, keepdim=True)
    shares = bends.cumsum(-1) / total
    cut = torch.ones_like(probs)  # (B, V)
    cut[:, :1] = 0.0
    cut[:, 1:-1] = shares.clamp(max=1.0)
    # All bends of a row are at or before the last but one of the tokens still there: what follows
    # that one has none and counts as 1.
    ranks = torch.arange(probs.shape[-1], device=logits.device)
    cut = cut.where((ranks <= num_bends) | (ranks == 0), 1.0)
    keeps = (cut <= tfs_z) | (total < _FLAT)
    return torch.zeros_like(keeps).scatter(-1, order, keeps)


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    kept = batch.min_kept(settings)
    return define.cut_by(tail_free_keeps, tfs_z=settings["tfs_z"], min_tokens_to_keep=kept)


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("tfs_z", number(gt=0, le=1), 1.0, "Tail-free: cut where the sorted probabilities "
                "flatten out; 1 is off.", aliases=("tfs",)),
    ),
    processors=(define.Processor("tfs_z", define.CUT + 50, _build),),
    strategies=(
        define.sampling(
            "tail_free",
            "Draws each token from those before the sorted probabilities flatten out.",
            "Phénix and Egan 2019, Tail Free Sampling (trentbrick.github.io).",
            tfs_z=0.95,
        ),
    ),
)  # fmt: skip
