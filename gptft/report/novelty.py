"""What of a run's texts is copied -> one self-contained page of them, the copies marked."""

from itertools import pairwise
from typing import NamedTuple

from gptft.analysis.memorization import Memorization, MemorizationSummary, TextMemorization
from gptft.analysis.ngram_search import SIZES
from gptft.analysis.span_places import Place
from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.values import one_line
from gptft.text.scripts import PageLanguage

_MOST_CHARACTERS = 1_000_000  # of all texts on a page, which stays below 5 MB so


class _Piece(NamedTuple):
    """A stretch of a text: its class is given, copied, longest or none."""

    text: str
    style: str


class _Text(NamedTuple):
    """A text on the page.

    Attributes:
        whole: prompt and continuation, as far as they are shown.
        pieces: the same in stretches of one kind.
        about: how long it is, and what is left out of it.
        longest: its longest copy, and where that stands, a sentence or two; "" where there is none.
        shares: of its n-grams, in words.
    """

    whole: str
    pieces: list[_Piece]
    about: str
    longest: str
    shares: list[str]


class _Account(NamedTuple):
    """A row of the table of all texts: each share with the size of its bar in CSS."""

    name: str
    num_tokens: str
    longest: str
    median: str
    shares: list[tuple[str, str]]


def novelty_html(measured: Memorization, lang: PageLanguage = "en") -> str:
    """The page, its words in a language."""
    words = Words.of(lang)
    texts, left = [], _MOST_CHARACTERS
    for text in measured.texts:
        if left <= 0:
            break
        texts.append(_text(text, words, at_most=left))
        left -= len(texts[-1].whole)
    accounts = [_account(words.count(len(measured.texts), "text"), measured.summary, words)]
    if measured.held_out is not None:
        accounts.append(_account(words.t["held_out_text"], measured.held_out, words))
    return render(
        "novelty.html.j2", measured=measured, texts=texts, accounts=accounts, sizes=SIZES,
        remark=_remark(measured, words), w=words,
    )  # fmt: skip


def _remark(measured: Memorization, words: Words) -> str:
    """What makes the comparison with held-out text impossible or weak; "" if nothing does."""
    if measured.held_out is None:
        return words.t["no_held_out"]
    if not (twice := measured.held_out_duplicates):
        return ""
    return words.say("held_out_twice", documents=words.count(twice, "held_out_document"))


def _account(name: str, summary: MemorizationSummary, words: Words) -> _Account:
    shares = [
        (words.percent(share, decimals=0), f"{100 * (share or 0.0):.4g}%")
        for share in summary.shares.values()
    ]
    return _Account(
        name, words.whole(summary.num_tokens), words.whole(summary.longest),
        words.local(f"{summary.median_longest:g}"), shares,
    )  # fmt: skip


def _text(text: TextMemorization, words: Words, *, at_most: int) -> _Text:
    prompt = text.text.prompt
    whole = (prompt + text.text.continuation)[:at_most]
    missing = len(prompt) + len(text.text.continuation) - len(whole)
    about = words.count(text.num_tokens, "token")
    if missing:
        about += "; " + words.say("last_missing", left=words.count(missing, "character"))
    shares = [
        words.say("ngrams", n=n, share=words.percent(s, decimals=0))
        for n, s in text.copied.shares.items()
    ]
    return _Text(whole, _pieces(text, whole), about, _longest(text, words), shares)


def _longest(text: TextMemorization, words: Words) -> str:
    copied = text.copied
    if not copied.longest or text.place is None:
        return ""
    return words.say(
        "the_longest_first" if copied.num_places > 1 else "the_longest",
        tokens=words.count(copied.longest, "token"), place=_place(text.place, words),
        characters=words.count(len(text.quote), "character"),
        places=words.count(copied.num_places, "place"),
    )  # fmt: skip


def _place(place: Place, words: Words) -> str:
    """Where a span stands; a file with its line is alike in all languages."""
    if place.file is None:
        return words.say("block_place", block=words.whole(place.block))
    if place.line is not None or place.document is None:
        return one_line(str(place))
    return words.say(
        "document_place", file=one_line(place.file), document=words.whole(place.document)
    )


def _pieces(text: TextMemorization, whole: str) -> list[_Piece]:
    """The text in stretches; what is in the longest copy is that and nothing else."""
    longest = (text.start_character, text.start_character + len(text.quote))
    marked = [(longest, "longest")] if text.quote else []
    marked += [((one.start_character, one.end_character), "copied") for one in text.stretches]
    marked.append(((0, len(text.text.prompt)), "given"))
    borders = {0, len(whole), *(border for span, _ in marked for border in span)}
    pieces: list[_Piece] = []
    at = 0  # of the stretches, which are in order: those that end before a piece
    stretches = [span for span, style in marked if style == "copied"]
    for start, end in pairwise(sorted(border for border in borders if border <= len(whole))):
        while at < len(stretches) and stretches[at][1] <= start:
            at += 1
        if text.quote and longest[0] <= start < longest[1]:
            style = "longest"
        elif at < len(stretches) and stretches[at][0] <= start:
            style = "copied"
        else:
            style = "given" if start < len(text.text.prompt) else ""
        pieces.append(_Piece(whole[start:end], style))
    return pieces
