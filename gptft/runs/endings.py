"""What run.json says of a finished run -> why it made fewer steps than were planned, in words."""

from collections.abc import Mapping
from typing import Any

from gptft.runs.read import as_int
from gptft.terminal.words import count

EARLY, MEMORIZED = "early_stopping", "memorized"  # what a result's `ended` may be, beside `steps`


def why_early(result: Mapping[str, Any]) -> str:
    """Why a run ended before its last step; empty where it made them all.

    Args:
        result: of run.json.

    >>> why_early({"ended": "early_stopping", "without_improvement": 3})
    'held-out loss had not fallen enough for 3 evaluations'
    """
    if result.get("ended") == EARLY:
        number = as_int(result.get("without_improvement"))
        after = "" if number is None else f" for {count(number, 'evaluation')}"
        return f"held-out loss had not fallen enough{after}"
    if result.get("is_memorized") is True:
        return "every token of the text had p >= 0.9, nothing was left to learn"
    return ""
