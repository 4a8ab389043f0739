"""What was measured of a model -> run.json and back."""

import math
from collections.abc import Mapping
from typing import Any

from gptft.runs.read import BeforeAfter
from gptft.training.evaluation import Measured


def before_and_after(before: Measured, after: Measured) -> BeforeAfter:
    """The figures of a text before and after training."""
    return BeforeAfter(
        before.loss, after.loss, before.perplexity, after.perplexity, after.num_tokens
    )


def as_facts(figure: Measured | None) -> dict[str, Any] | None:
    """A figure as run.json has it."""
    return None if figure is None else vars(figure)


def from_facts(before: Mapping[str, Any]) -> tuple[Measured, Measured | None]:
    """The figures of the training text and of held-out text, where there is any."""
    validation = before.get("validation")
    return _read(before["train"]), _read(validation) if validation else None


def _read(figure: Mapping[str, Any]) -> Measured:
    """What `as_facts` wrote; JSON has no word for a loss that isn't a number."""
    loss = figure["loss"]
    return Measured(math.nan if loss is None else float(loss), int(figure["num_tokens"]))
