"""A scored text -> one self-contained page of it, of one model or of two side by side."""

import math
from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.score_view import most_changed, rounded_bits, short_name, signed_bits
from gptft.analysis.scored_tokens import ScoredToken
from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.scored_text import (
    Piece,
    TokenTable,
    compared_table,
    gain_legend,
    gain_pieces,
    gain_style,
    names_of_pieces,
    probability_names,
    probability_pieces,
    token_table,
    within_limits,
)
from gptft.report.scripts import page_script
from gptft.terminal.text import escaped, readable
from gptft.terminal.text import visible as shown_token
from gptft.text.scripts import PageLanguage

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


def score_html(score: "TextScore", text: str, lang: PageLanguage = "en") -> str:
    """The page.

    Args:
        score: of the text, with that of the other model, if any.
        text: what was scored, which tells its language.
        lang: the language of the page's words.
    """
    words = Words.of(lang)
    most = max(len(one.tokens) for one in _both(score))
    return within_limits(lambda shown: _page(score, text, shown, words), num_tokens=most)


def _page(score: "TextScore", text: str, most: int, words: Words) -> str:
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
        tables = [
            token_table(f"tokens{n}", tokens, words) for n, tokens in enumerate(shown, start=1)
        ]
    else:
        models = names[0], names[1]
        tables = [compared_table("tokens1", shown[0], shown[1], gains, models=models, words=words)]
    return render(
        "score.html.j2", both=both, names=names, text=text, texts=texts, tables=tables, most=most,
        difference=difference, changes=_changes(score, shown, tables[0], changed, anchors, words),
        compared=_compared(score, words), notes=_notes(both, names, words), w=words,
        levels=probability_names(words), gain_levels=gain_legend(words),
        script=page_script("tokens"),
    )  # fmt: skip


def _both(score: "TextScore") -> "list[TextScore]":
    return [score] if score.other is None else [score, score.other]


def _names(both: "list[TextScore]") -> list[str]:
    """What to call the models: the last part of each one's name, or all where these are alike."""
    names = [short_name(one.model) for one in both]
    return names if len({*names}) == len(names) else [one.model for one in both]


def _compared(score: "TextScore", words: Words) -> str:
    """What one model needs beside the other, in a sentence; empty without another."""
    if score.other is None:
        return ""
    models = {"model": escaped(score.model), "other": escaped(score.other.model)}
    if not score.has_same_tokens:
        rate, other_rate = (
            words.t["unknown"] if one is None else words.local(f"{one:.3f}")
            for one in (score.bits_per_byte, score.other.bits_per_byte)
        )
        return words.say("unlike_tokens", **models, rate=rate, other_rate=other_rate)
    bits = score.other.bits - score.bits
    if not math.isfinite(bits):
        return words.say("no_chance", **models)
    key = "needs_more" if bits < 0 else "needs_fewer"
    return words.say(key, **models, bits=words.local(rounded_bits(abs(bits))))


def _rests_on(score: "TextScore", words: Words) -> str:
    """What the numbers of one model rest on, in a sentence or more."""
    said = [words.t["first_unscored"]]
    if score.begins_after is not None:
        said = [words.say("first_scored", token=shown_token(score.begins_after))]
    if (context := score.context) is not None:
        known = {"context": words.whole(context), "half": words.whole(context // 2)}
        said.append(words.say("beyond_context", **known))
    if not score.lossless:
        said.append(words.t["not_lossless"])
    return " ".join(said)


def _notes(both: "list[TextScore]", names: list[str], words: Words) -> list[str]:
    """What the numbers rest on; by model where it isn't the same for both."""
    said = [_rests_on(one, words) for one in both]
    if len({*said}) == 1:
        return said[:1]
    return [f"{name}: {one}" for name, one in zip(names, said, strict=True)]


def _changes(
    score: "TextScore",
    shown: list[list[ScoredToken]],
    table: TokenTable,
    places: list[int],
    anchors: list[str],
    words: Words,
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
                anchors[at], before, table.rows[at].label, words.probability(ours.probability),
                words.probability(theirs.probability), words.local(signed_bits(gain)),
                gain_style(gain),
            )
        )  # fmt: skip
    return found
