"""Adaptive-p: tokens near a probability that is steered so that those drawn have it on average."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor

# llama.cpp's constants, which its authors tuned and no option changes.
_WIDTH = 0.3
_PEAK = 5.0
_SHARPNESS = 10.0


def near_target(logits: "Tensor", target: "Tensor") -> "Tensor":
    """New logits that fall with the distance of a token's probability from a target.

    With d = abs(p - target) / 0.3 they are 5 - 10 * d**2 / (1 + d): a parabola near the target, a
    line far from it.

    Args:
        logits: shape (B, V).
        target: probabilities, shape (B, 1).

    Returns:
        shape (B, V); what was removed stays so.

    Source: no paper; llama.cpp's adaptive-p (ggml-org/llama.cpp, pull request 17927).

    >>> import torch
    >>> logits = torch.tensor([[0.6, 0.3, 0.1, 0.0]]).log()  # d: 1, 0, 2/3
    >>> near_target(logits, torch.tensor([[0.3]]))
    tensor([[0.0000, 5.0000, 2.3333,   -inf]])
    """
    distance = (logits.softmax(-1) - target).abs() / _WIDTH
    changed = _PEAK - _SHARPNESS * distance.square() / (1 + distance)
    return changed.masked_fill(logits == float("-inf"), float("-inf"))


class AdaptivePWarper:
    """Changes logits by `near_target`, the target moved by the probability of what was drawn.

    The target is 2 * adaptive_target - mean, between 0 and 1. The mean is that of the probabilities
    that the tokens drawn so far had before the change, each weighing adaptive_decay times as much
    as the one after it. A text starts as if endlessly many tokens of adaptive_target were drawn.
    """

    def __init__(self, *, adaptive_target: float, adaptive_decay: float) -> None:
        self._target = adaptive_target
        self._decay = adaptive_decay
        self._last = define.LastStep()
        self._sum: Tensor | None = None  # of the probabilities drawn, weighed, shape (B, 1)
        self._weight = 0.0

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Change logits of shape (B, V) after what `input_ids` end with."""
        logits = scores.float()
        drawn = self._last.drawn(input_ids)
        if drawn is None or self._sum is None:
            self._weight = 1 / (1 - self._decay)
            self._sum = logits.new_full((len(logits), 1), self._target * self._weight)
        else:
            self._sum = drawn.exp() + self._decay * self._sum
            self._weight = 1 + self._decay * self._weight
        self._last.remember(input_ids, logits.log_softmax(-1))
        return near_target(logits, (2 * self._target - self._sum / self._weight).clamp(0, 1))


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return AdaptivePWarper(**settings.named("adaptive_target", "adaptive_decay"))


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("adaptive_target", number(ge=0, le=1), None, "The mean probability to aim at of "
                "the tokens drawn."),
        Setting("adaptive_decay", number(ge=0, le=0.99), 0.9, "How much the tokens drawn before "
                "still count: about the last 1 / (1 - decay) of them."),
    ),
    strategies=(
        define.Strategy(
            name="adaptive_p",
            description="Draws tokens whose probability is near a target, moved so that those "
            "drawn have adaptive_target on average.",
            source="No paper: MrJackSpade and ddh0 2025, llama.cpp's --adaptive-target "
            "(ggml-org/llama.cpp 17927).",
            takes=("adaptive_target", "adaptive_decay", "min_p", *define.SAMPLING),
            # min_p as its authors advise: a target alone lets nonsense in where the model is sure.
            defaults={"adaptive_target": 0.5, "min_p": 0.05},
            draws="always",
            asked_by=("adaptive_target",),
            processors=(define.Processor("adaptive_target", define.STEER, _build),),
            conflicts="beams and mirostat: it is the last cut and remembers what was drawn",
        ),
    ),
)  # fmt: skip
