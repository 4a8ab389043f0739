"""Generated texts and their scores -> one self-contained page of why each token was chosen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.scored_tokens import ScoredToken
from gptft.analysis.text_view import has_processed
from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.scored_text import (
    Piece,
    TokenTable,
    probability_names,
    probability_pieces,
    token_table,
    within_limits,
)
from gptft.report.scripts import page_script
from gptft.text.scripts import PageLanguage

if TYPE_CHECKING:
    from gptft.decoding.engine import Generated


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
    model: str,
    texts: "Sequence[Generated]",
    tokens: Sequence[Sequence[ScoredToken]],
    lang: PageLanguage = "en",
) -> str:
    """The page.

    Args:
        model: what to call the model.
        texts: that it generated.
        tokens: of each text, scored; see `analysis.why.explain`.
        lang: the language of the page's words.
    """
    words = Words.of(lang)
    total = sum(map(len, tokens))
    return within_limits(lambda most: _page(model, texts, tokens, most, words), num_tokens=total)


def _page(
    model: str,
    texts: "Sequence[Generated]",
    tokens: Sequence[Sequence[ScoredToken]],
    most: int,
    words: Words,
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
                text, text.settings.sentence(), words.t[f"stopped_{text.stopped}"],
                probability_pieces(kept), after, token_table(f"tokens{number}", kept, words),
            )
        )  # fmt: skip
        left -= len(scored)
    return render(
        "generation.html.j2", model=model, texts=shown, num_texts=len(texts),
        last_cut=-left if left < 0 else 0, levels=probability_names(words), w=words,
        script=page_script("tokens"),
        has_prompts=any(scored and scored[0].score is None for scored in tokens),
    )  # fmt: skip
