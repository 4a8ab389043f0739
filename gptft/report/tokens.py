"""Measured texts -> one self-contained page of their tokens, of one tokenizer or of several."""

from collections.abc import Sequence

from gptft.inspection.cost import MeasuredText
from gptft.inspection.cost_view import contexts_in_words, costs_instead, seen_around
from gptft.inspection.token_view import shown_groups
from gptft.report.render import render


def tokens_html(measured: Sequence[MeasuredText]) -> str:
    """The page; what a token is stands in its title, and below while it is pointed at.

    Args:
        measured: the same text, by one or more tokenizers.
    """
    return render(
        "tokens.html.j2",
        measured=measured,
        shown_groups=shown_groups,
        costs_instead=costs_instead,
        contexts_in_words=contexts_in_words,
        seen_around=seen_around,
        newline=b"\n",
    )
