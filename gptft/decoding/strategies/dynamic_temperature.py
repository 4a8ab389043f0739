"""A temperature that follows the entropy of the distribution."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


_LOWEST_TEMPERATURE = 1e-6  # what can still be divided by; near enough to the argmax


def entropy_temperature(logits: "Tensor", *, low: float, high: float, exponent: float) -> "Tensor":
    """The temperature low + (high - low) * (H / Hmax) ** exponent of each row.

    H is the entropy of the row, Hmax that of as many equally likely tokens as are still there. A
    row with a single token has the temperature 1.

    Args:
        logits: shape (B, V).
        low: where the model is sure, > 0.
        high: where all tokens are equally likely.
        exponent: > 0.

    Returns:
        shape (B, 1).

    Source: no paper; kalomaze 2023, llama.cpp's dynatemp.

    >>> import torch
    >>> logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf, -99.0]])
    >>> entropy_temperature(logits, low=0.5, high=1.5, exponent=1.0)  # 1 and ln 2 / ln 3
    tensor([[1.5000],
            [1.1309]])
    """
    import torch

    entropy = torch.special.entr(logits.softmax(-1)).sum(-1, keepdim=True)
    count = (logits > float("-inf")).sum(-1, keepdim=True)
    share = (entropy / count.clamp(min=2).log()).clamp(0.0, 1.0)
    temperature: Tensor = low + (high - low) * share.pow(exponent)
    return temperature.where(count > 1, 1.0)


def divided_by_entropy(
    logits: "Tensor", *, temperature: float, dynatemp_range: float, dynatemp_exponent: float
) -> "Tensor":
    """Logits (B, V) divided by `entropy_temperature`, which is temperature +- range."""
    return logits / entropy_temperature(
        logits,
        low=max(temperature - dynatemp_range, _LOWEST_TEMPERATURE),
        high=temperature + dynatemp_range,
        exponent=dynatemp_exponent,
    )


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return define.bend_by(
        divided_by_entropy, **settings.named("temperature", "dynatemp_range", "dynatemp_exponent")
    )


def _check(settings: define.Values) -> Iterator[str]:
    if settings["dynatemp_range"] > settings["temperature"]:
        yield (
            f"dynatemp_range is {settings['dynatemp_range']}, more than temperature, "
            f"{settings['temperature']}: the lowest temperature would be below 0. Lower it."
        )


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("dynatemp_range", number(ge=0), 0.0, "The temperature goes from temperature minus "
                "this, where the model is sure, to temperature plus this."),
        Setting("dynatemp_exponent", number(gt=0), 1.0, "How the temperature follows the "
                "entropy."),
    ),
    processors=(
        define.Processor("dynatemp_range", define.TEMPERATURE + 20, _build,
                         ("dynatemp_exponent", "temperature_last")),
    ),
    strategies=(
        define.sampling(
            "dynamic_temperature",
            "Draws each token at a temperature that rises with the entropy of the distribution.",
            "No paper: kalomaze 2023; llama.cpp's dynatemp.",
            dynatemp_range=0.5,
        ),
    ),
    check=_check,
)  # fmt: skip
