"""How the loss of single documents fell in training, as run.json has it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gptft.files import JsonFields
from gptft.runs.read import as_float, as_int, as_mapping

_MOST = 8  # documents that are named


@dataclass(frozen=True)
class DocumentLoss:
    """One document of the training text.

    Attributes:
        start: how its text begins.
        num_tokens: of it that were predicted.
        loss_before: in nats a predicted token, before training.
        loss_after: the same, after it.
    """

    start: str
    num_tokens: int
    loss_before: float
    loss_after: float

    @property
    def fall(self) -> float:
        """How far the loss fell."""
        return self.loss_before - self.loss_after


@dataclass(frozen=True)
class DocumentLosses(JsonFields):
    """Those documents of a sample whose loss fell least.

    Attributes:
        num_measured: documents of the sample.
        median_fall: how far the loss of the middle one fell.
        least: the documents whose loss fell least, the least first.
    """

    num_measured: int
    median_fall: float
    least: tuple[DocumentLoss, ...]


def fell_least(documents: Sequence[DocumentLoss]) -> DocumentLosses | None:
    """Of some documents those whose loss fell least, fewer than half of them.

    None where there are fewer than two, or no more than one has a finite loss.
    """
    finite = [one for one in documents if math.isfinite(one.fall)]
    if len(finite) < 2:
        return None
    ordered = sorted(finite, key=lambda one: one.fall)
    middle = median(one.fall for one in finite)
    return DocumentLosses(len(finite), middle, tuple(ordered[: min(_MOST, len(finite) // 2)]))


def document_losses_of(facts: Mapping[str, Any]) -> DocumentLosses | None:
    """What a run.json says of it; None where there is nothing, or not all of it."""
    said = as_mapping(as_mapping(facts.get("result")).get("documents"))
    number, middle = as_int(said.get("num_measured")), as_float(said.get("median_fall"))
    rows = said.get("least")
    if number is None or middle is None or not isinstance(rows, list):
        return None
    least = []
    for row in map(as_mapping, rows):
        start, tokens = row.get("start"), as_int(row.get("num_tokens"))
        before, after = as_float(row.get("loss_before")), as_float(row.get("loss_after"))
        if not isinstance(start, str) or tokens is None or before is None or after is None:
            return None
        least.append(DocumentLoss(start, tokens, before, after))
    return DocumentLosses(number, middle, tuple(least)) if least else None
