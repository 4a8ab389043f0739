"""What one check of a tokenizer found: how bad it is, what it is, where, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptft.terminal.text import visible
from gptft.terminal.words import first_of

LEVELS = ("fault", "warning", "ok")
MAX_NAMED = 5  # tokens, or sorts of text, in one finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: "fault" (something will go wrong), "warning" (something may) or "ok".
        what: the finding, in a sentence.
        where: the file and the key in it, as `config.json:eos_token_id`.
        do: the way out; "" where there is nothing to do.
    """

    level: str
    what: str
    where: str
    do: str


def fault(what: str, where: str, do: str) -> Finding:
    """Something will go wrong."""
    return Finding("fault", what, where, do)


def warning(what: str, where: str, do: str) -> Finding:
    """Something may go wrong."""
    return Finding("warning", what, where, do)


def ok(what: str, where: str, do: str = "") -> Finding:
    """Something is in order."""
    return Finding("ok", what, where, do)


def shown(token: str | None) -> str:
    """A token as a message may hold it, with nothing hidden.

    >>> shown(" <s>")
    '·<s>'
    """
    return visible((token or "").encode(errors="replace"))


def some(tokens: Sequence[str]) -> str:
    """The first of some tokens, as `shown`, and how many more there are."""
    return first_of([shown(token) for token in tokens], MAX_NAMED)
