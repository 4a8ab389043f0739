"""Numbers of layers in the settings, and how many layers a model has -> those that are meant."""

from collections.abc import Sequence
from typing import Literal

from gptft.errors import ConfigError
from gptft.terminal.words import count

# Of a model deeper than 40 layers the first or the last 20 are looked at.
_DEEP, _OUTER = 40, 20


def check_first_layers(num_layers: int, *, total: int) -> None:
    """Refuse a number of first layers that aren't a smaller model.

    Raises:
        ConfigError: `num_layers` isn't from 1 to `total` - 1.
    """
    if not 1 <= num_layers < total:
        raise ConfigError(
            f"The first {num_layers} layers can't be taken alone: the model has {total}, and "
            f"it takes 1 to {total - 1} of them."
            if total > 1
            else "The model has one layer, and a model of its first layers would be the model."
        )


def early_layers(
    dola_layers: Literal["low", "high"] | Sequence[int], *, num_layers: int, tied: bool
) -> list[int]:
    """The layers one of which is contrasted with the last; n is what n layers have made of a token.

    Args:
        dola_layers: low, the even ones of the first half, where tied from 2 on; high, the even ones
            of the second; or their numbers, 0 being the embeddings.
        num_layers: layers of the model.
        tied: whether the head is the embeddings; their own layer says then only the token itself.

    Returns:
        At least one number, each below num_layers.

    Raises:
        ConfigError: there is no such layer.

    Source: Chuang et al. 2023 (2309.03883), section 3.1.

    >>> early_layers("low", num_layers=12, tied=True)
    [2, 4]
    >>> early_layers("high", num_layers=12, tied=True)
    [6, 8, 10]
    """
    if isinstance(dola_layers, str):
        return _half(dola_layers, num_layers=num_layers, start=2 if tied else 0)
    chosen = sorted(set(dola_layers))
    off = [layer for layer in chosen if not 0 <= layer < num_layers]
    if off or not chosen:
        raise ConfigError(
            f"dola_layers must be numbers from 0 to {num_layers - 1}, for the model has "
            f"{count(num_layers, 'layer')}, not {', '.join(map(str, off)) or 'none'}."
        )
    return chosen


def _half(half: Literal["low", "high"], *, num_layers: int, start: int) -> list[int]:
    if half == "low":
        end = num_layers // 2 if num_layers <= _DEEP else _OUTER
        found = list(range(start, end, 2))
    else:
        begin = max(start, num_layers // 2 if num_layers <= _DEEP else num_layers - _OUTER)
        found = list(range(begin + begin % 2, num_layers, 2))
    return found or [min(max(start, num_layers // 2), num_layers - 1)]
