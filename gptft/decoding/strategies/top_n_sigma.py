"""Top-nσ: tokens whose logit is within n standard deviations of the highest."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


def top_n_sigma_keeps(logits: "Tensor", *, top_n_sigma: float) -> "Tensor":
    """Which tokens are within `top_n_sigma` standard deviations of the highest logit.

    Args:
        logits: shape (B, V).
        top_n_sigma: standard deviations, > 0; the deviation is that of the tokens still there,
            divided by their number and not by one less.

    Returns:
        shape (B, V), bool.

    Source: Tang et al. 2024 (2411.07641).

    >>> import torch
    >>> logits = torch.tensor([[5.0, 3.0, 1.0, -1.0]])  # sigma 2.236
    >>> top_n_sigma_keeps(logits, top_n_sigma=1.0).tolist()
    [[True, True, False, False]]
    """
    there = logits > float("-inf")
    count = there.sum(-1, keepdim=True)
    mean = logits.where(there, 0.0).sum(-1, keepdim=True) / count
    variance = (logits - mean).where(there, 0.0).square().sum(-1, keepdim=True) / count
    return logits >= logits.amax(-1, keepdim=True) - top_n_sigma * variance.sqrt()


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    kept = batch.min_kept(settings)
    return define.cut_by(
        top_n_sigma_keeps, top_n_sigma=settings["top_n_sigma"], min_tokens_to_keep=kept
    )


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("top_n_sigma", number(ge=0), 0.0, "Draw from tokens within n standard deviations "
                "of the highest logit; 0 is off.", aliases=("top_nsigma",)),
    ),
    processors=(define.Processor("top_n_sigma", define.CUT + 10, _build),),
    strategies=(
        define.sampling(
            "top_n_sigma",
            "Draws each token from those whose logit is within n standard deviations of the "
            "highest.",
            "Tang et al. 2024 (2411.07641).",
            top_n_sigma=1.0,
        ),
    ),
)  # fmt: skip
