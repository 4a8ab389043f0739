"""The small values that an explanation is made of: tokens with their names, arrays in JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gptft.files import JsonFields


class ArrayFields(JsonFields):
    """Base of a dataclass whose arrays are lists in JSON."""

    __slots__ = ()

    def json_fields(self) -> dict[str, Any]:
        """Values by their names; an array as lists, rounded to six digits."""
        return {name: _listed(value) for name, value in super().json_fields().items()}


def _listed(value: Any) -> Any:
    return np.round(value.astype(float), 6).tolist() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class NamedToken(JsonFields):
    """A token with how a person is shown it.

    Attributes:
        id: the token.
        text: as `gptft tokenize` shows it.
        bytes: what it stands for; `text` may show different bytes alike.
    """

    json_names = ("id", "text")

    id: int
    text: str
    bytes: bytes


@dataclass(frozen=True)
class Candidate(JsonFields):
    """A token that may come next.

    Attributes:
        token: the token.
        probability: from 0 to 1.
    """

    token: NamedToken
    probability: float


@dataclass(frozen=True)
class Neighbour(JsonFields):
    """A token whose vector is near another's.

    Attributes:
        token: the token.
        likeness: cosine of the angle between the two vectors.
    """

    token: NamedToken
    likeness: float


@dataclass(frozen=True)
class RandomLikeness(JsonFields):
    """How like two tokens are that have nothing to do with each other.

    Attributes:
        mean: the cosine of two tokens taken at random, on average.
        high: what one pair in a hundred exceeds.
    """

    mean: float
    high: float
