"""What of a run's texts is copied -> one self-contained page of them, the copies marked."""

from itertools import pairwise
from typing import NamedTuple

from gptft.analysis.memorization import Memorization, MemorizationSummary, TextMemorization
from gptft.analysis.memorization_view import what_it_means
from gptft.analysis.ngram_search import SIZES
from gptft.report.render import render
from gptft.terminal.words import count, percent

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
        longest: its longest copy, and where that stands, in words; "" where there is none.
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


def novelty_html(measured: Memorization) -> str:
    """The page."""
    texts, left = [], _MOST_CHARACTERS
    for text in measured.texts:
        if left <= 0:
            break
        texts.append(_text(text, at_most=left))
        left -= len(texts[-1].whole)
    accounts = [_account(count(len(measured.texts), "text"), measured.summary)]
    if measured.held_out is not None:
        accounts.append(_account("held-out text", measured.held_out))
    return render(
        "novelty.html.j2", measured=measured, texts=texts, accounts=accounts, sizes=SIZES,
        remark=what_it_means(measured) or "",
    )  # fmt: skip


def _account(name: str, summary: MemorizationSummary) -> _Account:
    shares = [
        (percent(share, decimals=0), f"{100 * (share or 0.0):.4g}%")
        for share in summary.shares.values()
    ]
    return _Account(
        name, f"{summary.num_tokens:,}", f"{summary.longest:,}", f"{summary.median_longest:g}",
        shares,
    )  # fmt: skip


def _text(text: TextMemorization, *, at_most: int) -> _Text:
    prompt = text.text.prompt
    whole = (prompt + text.text.continuation)[:at_most]
    missing = len(prompt) + len(text.text.continuation) - len(whole)
    about = count(text.num_tokens, "token")
    if missing:
        about += f"; its last {count(missing, 'character')} aren't shown"
    shares = [f"{n}-grams {percent(s, decimals=0)}" for n, s in text.copied.shares.items()]
    return _Text(whole, _pieces(text, whole), about, _longest(text), shares)


def _longest(text: TextMemorization) -> str:
    copied = text.copied
    if not copied.longest or text.place is None:
        return ""
    size = f"{count(copied.longest, 'token')}, {count(len(text.quote), 'character')}"
    more = f", the first of {copied.num_places:,} places" if copied.num_places > 1 else ""
    return f"{size}. It stands in {text.place}{more}."


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
