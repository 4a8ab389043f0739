"""A value that should be a number -> the number meant, within what any number may be."""

import math
from typing import Any

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt

from gptft.terminal.words import wrong_value

# No setting means more than this, and libraries that keep numbers in 32 or 64 bits, or set memory
# aside for so many of something, end a process over it. Steps, epochs and logits stay far below.
LARGEST_WHOLE = 2_000_000_000
LARGEST = 1e12
MAX_SEED = 2**32 - 1  # NumPy's, which transformers seeds with the same number
MAX_BLOCK_SIZE = 100_000_000  # tokens; the longest contexts known are of 10 million (Llama 4)
MAX_VOCAB_SIZE = 10_000_000  # ids; known models have up to 262,144 (Gemma 3)


def as_number(value: Any) -> float:
    """A number, also one that YAML takes for text, as it does with 3e-4; true is none.

    Raises:
        ValueError: it is none, or beyond what a computer holds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("too large") from None


def as_whole(value: Any) -> Any:
    """A whole number written with a point, such as 8.0 or 1e3, without it; all else as it is.

    >>> as_whole(8.0), as_whole(8.5), as_whole("8.0")
    (8, 8.5, '8.0')
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def beyond_sense(value: float, *, most: float | None = None) -> str | None:
    """Why a number can't be meant, in words that follow a setting's name; None where it can.

    Args:
        value: the number.
        most: what it may be at most; else what any number of its type may be.

    >>> beyond_sense(math.nan), beyond_sense(3 * 10**9, most=10), beyond_sense(-1e9)
    ('must be a finite number, not nan.', 'must be at most 10, not 3000000000.', None)
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}."
    largest = LARGEST if isinstance(value, float) else LARGEST_WHOLE
    most = largest if most is None else most
    if value > most:
        return f"must be at most {most:,.15g}, not {wrong_value(value)}."
    if value < -largest:
        return f"must be at least {-largest:,.15g}, not {wrong_value(value)}."
    return None


def read_whole(value: Any) -> int:
    """A whole number, also one written as text or with a point, such as "8" and 8.0.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = as_number(value)
    if not number.is_integer():
        raise ValueError("not a whole number")
    return int(number)


def bounded(*bounds: BaseMetadata, largest: float) -> tuple[BaseMetadata, ...]:
    """Bounds of a number, with `largest` on each side that has none.

    >>> bounded(Ge(0), largest=1e12)
    (Ge(ge=0), Le(le=1000000000000.0))
    """
    has_low = any(isinstance(bound, Ge | Gt) for bound in bounds)
    has_high = any(isinstance(bound, Le | Lt) for bound in bounds)
    low = () if has_low else (Ge(-largest),)
    return *bounds, *low, *(() if has_high else (Le(largest),))
