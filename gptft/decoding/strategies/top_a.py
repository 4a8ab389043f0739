"""Top-a: tokens as likely as a share of the highest probability squared."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


def top_a_keeps(logits: "Tensor", *, top_a: float) -> "Tensor":
    """Which tokens are at least as likely as `top_a` times the highest probability squared.

    Args:
        logits: shape (B, V).
        top_a: 0 to 1.

    Returns:
        shape (B, V), bool.

    Source: no paper; BlinkDL's RWKV-LM, 2021.

    >>> import torch
    >>> logits = torch.tensor([[0.6, 0.25, 0.1, 0.05]]).log()  # the cut is at 0.2 * 0.36 = 0.072
    >>> top_a_keeps(logits, top_a=0.2).tolist()
    [[True, True, True, False]]
    """
    probs = logits.softmax(-1)
    return probs >= top_a * probs.amax(-1, keepdim=True).square()


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    kept = batch.min_kept(settings)
    return define.cut_by(top_a_keeps, top_a=settings["top_a"], min_tokens_to_keep=kept)


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("top_a", number(ge=0, le=1), 0.0, "Draw from tokens as likely as this times the "
                "highest probability squared; 0 is off."),
    ),
    processors=(define.Processor("top_a", define.CUT + 40, _build),),
    strategies=(
        define.sampling(
            "top_a",
            "Draws each token from those as likely as top_a times the highest probability "
            "squared.",
            "No paper: BlinkDL's RWKV-LM, 2021.",
            top_a=0.2,
        ),
    ),
)  # fmt: skip
