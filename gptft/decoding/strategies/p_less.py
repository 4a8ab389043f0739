"""p-less sampling: tokens at least as likely as two draws are to be the same token."""

from typing import TYPE_CHECKING

from gptft.config.settings import Flag, Setting
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


def p_less_keeps(logits: "Tensor", *, p_less_norm: bool = False) -> "Tensor":
    """Which tokens are at least as likely as the distribution's collision probability.

    That is the sum of p**2, the probability that two draws give the same token; its logarithm is
    the negative Rényi entropy of order 2. Normalized, it is (V * sum - 1) / (V - 1), which takes
    off what draws from V equally likely tokens would collide by chance. The likeliest token is
    never below either.

    Args:
        logits: shape (B, V).
        p_less_norm: whether to normalize; V counts the tokens still there.

    Returns:
        shape (B, V), bool.

    Source: Tan, Wu and Howard 2025 (2509.23234).

    >>> import torch
    >>> logits = torch.tensor([[0.6, 0.25, 0.1, 0.05]]).log()  # 0.36 + 0.0625 + 0.01 + 0.0025
    >>> p_less_keeps(logits).tolist()  # from 0.435 on
    [[True, False, False, False]]
    >>> p_less_keeps(logits, p_less_norm=True).tolist()  # (4 * 0.435 - 1) / 3 = 0.2467
    [[True, True, False, False]]
    """
    probs = logits.softmax(-1)
    threshold = probs.square().sum(-1, keepdim=True)  # (B, 1)
    if p_less_norm:
        count = (logits > float("-inf")).sum(-1, keepdim=True).clamp(min=2)
        threshold = (count * threshold - 1) / (count - 1)
    # Of equally likely tokens none would be below it, but for rounding.
    return probs >= threshold.minimum(probs.amax(-1, keepdim=True))


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    values = settings.named("p_less_norm")
    return define.cut_by(p_less_keeps, **values, min_tokens_to_keep=batch.min_kept(settings))


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("p_less", Flag, False, "Draw from tokens at least as likely as two draws are to be "
                "the same one: a cut without a number to choose."),
        Setting("p_less_norm", Flag, False, "The cut of p_less less what chance alone would give: "
                "more tokens stay."),
    ),
    processors=(define.Processor("p_less", define.CUT + 88, _build, ("p_less_norm",)),),
    strategies=(
        define.sampling(
            "p_less",
            "Draws each token from those at least as likely as two draws are to be the same token.",
            "Tan, Wu and Howard 2025 (2509.23234).",
            p_less=True,
        ),
    ),
)  # fmt: skip
