"""Quadratic smoothing: a parabola around the highest logit."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


def smoothed(logits: "Tensor", *, smoothing_factor: float, smoothing_curve: float) -> "Tensor":
    """Bend the logits around the highest one: max - k * f * d**2 + s * f * d**3.

    d is a logit minus the highest, f the factor, k = (3 - curve) / 2 and s = (curve - 1) / 2. With
    curve 1 that is the parabola max - f * d**2.

    Args:
        logits: shape (B, V).
        smoothing_factor: > 0.
        smoothing_curve: 1 to 3. Above 3 the formula lifts tokens near the likeliest above it.

    Returns:
        shape (B, V).

    Source: no paper; kalomaze 2024, text-generation-webui's smoothing_factor and smoothing_curve.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 3.0, 2.0]])
    >>> smoothed(logits, smoothing_factor=0.5, smoothing_curve=1.0).tolist()
    [[4.0, 3.5, 2.0]]
    >>> smoothed(logits, smoothing_factor=0.5, smoothing_curve=2.0).tolist()
    [[4.0, 3.5, 1.0]]
    """
    k, s = (3 - smoothing_curve) / 2, (smoothing_curve - 1) / 2
    highest = logits.amax(-1, keepdim=True)
    # A removed token has no distance; -inf squared times 0 would be no number.
    distance = (logits - highest).where(logits > float("-inf"), 0.0)
    bent = highest + smoothing_factor * distance.square() * (s * distance - k)
    return bent.where(logits > float("-inf"), float("-inf"))


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return define.bend_by(smoothed, **settings.named("smoothing_factor", "smoothing_curve"))


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("smoothing_factor", number(ge=0), 0.0, "Quadratic smoothing around the likeliest "
                "token; 0 is off."),
        Setting("smoothing_curve", number(ge=1, le=3), 1.0, "Above 1 the tail falls faster."),
    ),
    processors=(
        define.Processor("smoothing_factor", define.TEMPERATURE + 30, _build,
                         ("smoothing_curve", "temperature_last")),
    ),
    strategies=(
        define.sampling(
            "quadratic_smoothing",
            "Draws each token after a parabola around the highest logit has bent all others.",
            "No paper: kalomaze 2024; text-generation-webui's smoothing_factor.",
            smoothing_factor=0.3,
        ),
    ),
)  # fmt: skip
