"""A scored text -> one self-contained page of it, of one model or of two side by side."""

from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.score_view import (
    compared_in_words,
    most_changed,
    score_lines,
    short_name,
    signed_bits,
)
from gptft.analysis.scored_tokens import ScoredToken
from gptft.report.render import render
from gptft.report.scored_text import (
    Piece,
    TokenTable,
    compared_table,
    gain_legend,
    gain_pieces,
    gain_style,
    names_of_pieces,
    probability_pieces,
    token_table,
    within_limits,
)
from gptft.report.scripts import page_script
from gptft.terminal.draw import PROBABILITY_NAMES
from gptft.terminal.text import readable
from gptft.terminal.words import probability

if TYPE_CHECKING:
    from gptft.analysis.score import TextScore

_MOST_CHANGED = 30  # tokens that are listed
_BEFORE = 24  # characters of the text before such a token


class _Coloured(NamedTuple):
    """A text as one model, or the difference of two, colours it."""

    title: str
    pieces: list[Piece]
    table: str


class _Change(NamedTuple):
    """A token that the two models expect most differently."""

    anchor: str
    before: str
    label: str
    ours: str
    theirs: str
    gain: str
    style: str


def score_html(score: "TextScore", text: str) -> str:
    """The page.

    Args:
        score: of the text, with that of the other model, if any.
        text: what was scored, which tells its language.
    """
    most = max(len(one.tokens) for one in _both(score))
    return within_limits(lambda shown: _page(score, text, shown), num_tokens=most)


def _page(score: "TextScore", text: str, most: int) -> str:
    """The page of the first `most` tokens."""
    both = _both(score)
    names, shown = _names(both), [one.tokens[:most] for one in both]
    gains = None if score.gains is None else score.gains[:most]
    changed = most_changed(gains or (), at_most=_MOST_CHANGED)
    texts = [
        _Coloured(name, probability_pieces(tokens), f"tokens{1 if gains is not None else n}")
        for n, (name, tokens) in enumerate(zip(names, shown, strict=True), start=1)
    ]
    difference = None if gains is None else gain_pieces(shown[0], gains, named=changed)
    anchors = names_of_pieces(difference or ())
    if gains is None:
        tables = [token_table(f"tokens{n}", tokens) for n, tokens in enumerate(shown, start=1)]
    else:
        tables = [compared_table("tokens1", shown[0], shown[1], gains, models=(names[0], names[1]))]
    return render(
        "score.html.j2", both=both, names=names, text=text, texts=texts, tables=tables, most=most,
        difference=difference, changes=_changes(score, shown, tables[0], changed, anchors),
        compared=compared_in_words(score), notes=_notes(both, names),
        levels=PROBABILITY_NAMES, gain_levels=gain_legend(), script=page_script("tokens"),
    )  # fmt: skip


def _both(score: "TextScore") -> "list[TextScore]":
    return [score] if score.other is None else [score, score.other]


def _names(both: "list[TextScore]") -> list[str]:
    """What to call the models: the last part of each one's name, or all where these are alike."""
    names = [short_name(one.model) for one in both]
    return names if len({*names}) == len(names) else [one.model for one in both]


def _notes(both: "list[TextScore]", names: list[str]) -> list[str]:
    """What the numbers rest on; by model where it isn't the same for both."""
    said = [
        " ".join(score_lines(one)[2:])
        + ("" if one.lossless else " The tokenizer doesn't keep this text byte for byte.")
        for one in both
    ]
    if len({*said}) == 1:
        return said[:1]
    return [f"{name}: {words}" for name, words in zip(names, said, strict=True)]


def _changes(
    score: "TextScore",
    shown: list[list[ScoredToken]],
    table: TokenTable,
    places: list[int],
    anchors: list[str],
) -> list[_Change]:
    """The tokens at some places, with what stands before each, and the id of its piece."""
    found = []
    for at in places:
        ours, theirs = shown[0][at].score, shown[1][at].score
        gain = (score.gains or ())[at]
        if ours is None or theirs is None or gain is None:
            continue
        raw = b"".join(one.token.bytes for one in shown[0][max(at - _BEFORE, 0) : at])
        before = readable(raw.decode(errors="ignore")[-_BEFORE:].encode()).replace("\n", " ")
        found.append(
            _Change(
                anchors[at], before, table.rows[at].label, probability(ours.probability),
                probability(theirs.probability), signed_bits(gain), gain_style(gain),
            )
        )  # fmt: skip
    return found
