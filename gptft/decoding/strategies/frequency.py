"""Penalties on tokens that were already generated, as OpenAI's API has them."""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


_RANGE = number(ge=-2, le=2)


def frequency_presence_penalty(
    *, frequency_penalty: float, presence_penalty: float, prompt_length: int
) -> define.Process:
    """A processor: frequency * count + presence * (count > 0) is taken off each token's logit.

    The count is that of the token in the ids from `prompt_length` on: the prompt doesn't count.

    Source: OpenAI API reference, frequency_penalty and presence_penalty.
    """

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        new_ids = input_ids[:, prompt_length:]  # (B, new)
        ones = logits.new_ones(new_ids.shape)
        counts = logits.new_zeros(logits.shape).scatter_add(-1, new_ids, ones)  # (B, V)
        return logits - frequency_penalty * counts - presence_penalty * (counts > 0)

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    penalties = settings.named("frequency_penalty", "presence_penalty")
    return frequency_presence_penalty(**penalties, prompt_length=batch.prompt_length)


def _is_presence_alone(settings: define.Values) -> bool:
    return settings.is_on("presence_penalty") and not settings.is_on("frequency_penalty")


METHOD = define.Method(
    group="repetition",
    settings=(
        Setting("frequency_penalty", _RANGE, 0.0, "Taken from a token's logit each time it was "
                "generated."),
        Setting("presence_penalty", _RANGE, 0.0, "Taken from a token's logit once it was "
                "generated."),
    ),
    processors=(
        define.Processor("frequency_penalty", define.PENALTY + 30, _build),
        define.Processor("presence_penalty", define.PENALTY + 30, _build, when=_is_presence_alone),
    ),
    strategies=(
        define.sampling(
            "frequency_penalty",
            "Draws each token, its logit lowered for each time it was generated.",
            "OpenAI API reference, frequency_penalty.",
            is_asked=False,
            frequency_penalty=0.5,
        ),
        define.sampling(
            "presence_penalty",
            "Draws each token, its logit lowered once it was generated.",
            "OpenAI API reference, presence_penalty.",
            is_asked=False,
            presence_penalty=0.5,
        ),
    ),
)  # fmt: skip
