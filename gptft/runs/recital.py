"""What a model recites of its training text, before and after training, as run.json has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptft.files import JsonFields
from gptft.runs.read import as_int, as_mapping
from gptft.terminal.words import count

_COUNTS = ("num_lines", "lines_before", "lines_after")
_TEXTS = ("prompt", "before", "after")


@dataclass(frozen=True)
class RecitedText:
    """One document, given its beginning.

    Attributes:
        prompt: that beginning.
        num_lines: lines of the document that follow it.
        lines_before: how many of them the model wrote word for word before training.
        lines_after: the same after training.
        before: what it wrote before training.
        after: what it wrote after training.
    """

    prompt: str
    num_lines: int
    lines_before: int
    lines_after: int
    before: str
    after: str


@dataclass(frozen=True)
class Recital(JsonFields):
    """All documents that a run recites."""

    texts: tuple[RecitedText, ...]

    json_names = ("num_lines", "lines_before", "lines_after", "texts")

    @property
    def num_lines(self) -> int:
        """Lines of all documents."""
        return sum(text.num_lines for text in self.texts)

    @property
    def lines_before(self) -> int:
        """Those recited before training."""
        return sum(text.lines_before for text in self.texts)

    @property
    def lines_after(self) -> int:
        """Those recited after training."""
        return sum(text.lines_after for text in self.texts)


def recites(recited: int, of: int) -> str:
    """How much of a text a model recites.

    >>> recites(29, 31), recites(1, 1)
    ('recites 29 of 31 lines', 'recites 1 of 1 line')
    """
    return f"recites {recited:,} of {count(of, 'line')}"


def recital_of(facts: Mapping[str, Any]) -> Recital | None:
    """What a run.json says of it; None where there is nothing, or not all of it."""
    found = as_mapping(as_mapping(facts.get("result")).get("recital")).get("texts")
    texts = []
    for one in found if isinstance(found, list) else []:
        values = as_mapping(one)
        lines = [as_int(values.get(name)) for name in _COUNTS]
        words = [values.get(name) for name in _TEXTS]
        if None in lines or not all(isinstance(word, str) for word in words):
            return None
        texts.append(RecitedText(**{name: values[name] for name in (*_COUNTS, *_TEXTS)}))
    return Recital(tuple(texts)) if texts else None
