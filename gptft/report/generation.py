"""Generated texts and their scores -> one self-contained page of why each token was chosen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.scored_tokens import ScoredToken
from gptft.analysis.text_view import has_processed
from gptft.report.render import render
from gptft.report.scored_text import (
    Piece,
    TokenTable,
    probability_pieces,
    token_table,
    within_limits,
)
from gptft.report.scripts import page_script
from gptft.terminal.draw import PROBABILITY_NAMES

if TYPE_CHECKING:
    from gptft.decoding.engine import Generated

_STOPPED = {
    "eos": "The model ended the text.",
    "length": "Cut at its length.",
    "stop_string": "Ended before a stop string.",
}


class _Text(NamedTuple):
    """A text on the page.

    Attributes:
        generated: the text itself.
        settings: that were in force, in words.
        stopped: why it ends, in words.
        alone: coloured by the model's own probabilities.
        after: coloured by what settings made of them; None where they left them.
        table: of its tokens.
    """

    generated: "Generated"
    settings: str
    stopped: str
    alone: list[Piece]
    after: list[Piece] | None
    table: TokenTable


def generation_html(
    model: str, texts: "Sequence[Generated]", tokens: Sequence[Sequence[ScoredToken]]
) -> str:
    """The page.

    Args:
        model: what to call the model.
        texts: that it generated.
        tokens: of each text, scored; see `analysis.why.explain`.
    """
    total = sum(map(len, tokens))
    return within_limits(lambda most: _page(model, texts, tokens, most), num_tokens=total)


def _page(
    model: str,
    texts: "Sequence[Generated]",
    tokens: Sequence[Sequence[ScoredToken]],
    most: int,
) -> str:
    """The page of the texts whose tokens are among the first `most`; the last may be cut."""
    shown: list[_Text] = []
    left = most
    for number, (text, scored) in enumerate(zip(texts, tokens, strict=True), start=1):
        if shown and left <= 0:
            break
        kept = scored[: max(left, 1)]
        after = probability_pieces(kept, processed=True) if has_processed(kept) else None
        shown.append(
            _Text(
                text, text.settings.sentence(), _STOPPED[text.stopped], probability_pieces(kept),
                after, token_table(f"tokens{number}", kept),
            )
        )  # fmt: skip
        left -= len(scored)
    return render(
        "generation.html.j2", model=model, texts=shown, num_texts=len(texts),
        last_cut=-left if left < 0 else 0, levels=PROBABILITY_NAMES, script=page_script("tokens"),
        has_prompts=any(scored and scored[0].score is None for scored in tokens),
    )  # fmt: skip
