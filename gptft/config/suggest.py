"""A misspelt name -> the name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A question naming the nearest known name, or nothing where none is near.

    >>> did_you_mean("learning_rte", ["learning_rate", "seed"], prefix="training.")
    'Did you mean training.learning_rate?'
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {prefix}{near[0]}?" if near else ""
