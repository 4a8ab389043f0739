"""Scored tokens -> what a page shows of them: a text in colours, and a table of its tokens.

A page has at most 10,000 tokens of a text, so that it opens quickly and stays below 5 MB.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gptft.analysis.score_view import signed_bits
from gptft.analysis.scored_tokens import RunnerUp, ScoredToken, TokenScore
from gptft.analysis.text_view import MAX_TOKEN, has_processed, text_spots
from gptft.inspection.token_view import bracketed
from gptft.report.language import Words
from gptft.terminal.cells import cut
from gptft.terminal.draw import PROBABILITY_NAMES, probability_level
from gptft.terminal.text import readable
from gptft.terminal.words import probability

_MOST_TOKENS = 10_000  # on a page
_MOST_BYTES = 4_900_000  # of a page
NO_SCORE = "–"

_GAP = "\N{EM SPACE}"  # between runners-up: a comma could be one of them
_GAINS = (0.5, 2.0, 5.0)  # bits, from which on a gain or a loss has a colour of its own


class Piece(NamedTuple):
    """A stretch of a text that has one colour.

    Attributes:
        text: with nothing hidden in it.
        style: a class of the stylesheet.
        num_tokens: rows of the table that it stands for.
        name: its id on the page; empty where nothing points to it.
    """

    text: str
    style: str
    num_tokens: int
    name: str = ""


class Row(NamedTuple):
    """A token in the table: what it is, its numbers, and what else was likely."""

    label: str
    numbers: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class TokenTable:
    """The table below a text.

    Attributes:
        name: its id on the page.
        heads: of the numbers.
        other_heads: of the runners-up, one a model.
        rows: a token each, in order.
    """

    name: str
    heads: tuple[str, ...]
    other_heads: tuple[str, ...]
    rows: tuple[Row, ...]


def within_limits(draw: Callable[[int], str], *, num_tokens: int) -> str:
    """A page with as many tokens as it may have.

    Args:
        draw: the page of at most so many tokens.
        num_tokens: how many there are.
    """
    shown = min(num_tokens, _MOST_TOKENS)
    while (size := len((page := draw(shown)).encode())) > _MOST_BYTES and shown > 1:
        shown = int(shown * 0.97 * _MOST_BYTES / size)
    return page


def probability_pieces(tokens: Sequence[ScoredToken], *, processed: bool = False) -> list[Piece]:
    """A text, coloured by how likely its tokens are.

    Args:
        tokens: of the text, or of its beginning.
        processed: by what settings made of the probabilities.
    """
    return [
        Piece(
            readable(spot.raw), "none" if likely is None else f"p{probability_level(likely)}",
            spot.num_tokens,
        )
        for spot in text_spots(tokens)
        for likely in [spot.processed_probability if processed else spot.probability]
    ]  # fmt: skip


def probability_names(words: Words) -> list[str]:
    """What each colour of a probability stands for, the likeliest first."""
    return [*map(words.local, PROBABILITY_NAMES[:-1]), words.t["likely_rest"]]


def gain_pieces(
    tokens: Sequence[ScoredToken], gains: Sequence[float | None], *, named: Iterable[int] = ()
) -> list[Piece]:
    """A text, coloured by the bits that another model needs more or fewer for its tokens.

    Args:
        tokens: of the text, or of its beginning.
        gains: bits by token, None where they aren't known.
        named: places of tokens that something on the page points to, see `names_of_pieces`.
    """
    pieces, at, wanted = [], 0, {*named}
    for spot in text_spots(tokens):
        places = range(at, at + spot.num_tokens)
        known = [gains[place] for place in places]
        style = gain_style(sum(g for g in known if g is not None)) if None not in known else "none"
        name = "" if wanted.isdisjoint(places) else f"t{at}"
        pieces.append(Piece(readable(spot.raw), style, spot.num_tokens, name))
        at += spot.num_tokens
    return pieces


def names_of_pieces(pieces: Iterable[Piece]) -> list[str]:
    """By token, the id of the piece that it is in; empty where that has none."""
    return [piece.name for piece in pieces for _ in range(piece.num_tokens)]


def gain_style(bits: float) -> str:
    """The class of a gain, g1 to g3, or of a loss, l1 to l3; "" for hardly any.

    >>> [gain_style(bits) for bits in (0.4, 0.5, -3.0, 9.0)]
    ['', 'g1', 'l2', 'g3']
    """
    step = sum(abs(bits) >= least for least in _GAINS)
    return f"{'g' if bits > 0 else 'l'}{step}" if step else ""


def gain_legend(words: Words) -> list[tuple[str, str]]:
    """Each class of a gain or a loss, and the bits it stands for."""
    names = [words.say("bits_least", bits=words.local(f"{least:g}")) for least in _GAINS]
    return [
        *((f"l{n}", f"\N{MINUS SIGN}{names[n - 1]}") for n in (3, 2, 1)),
        *((f"g{n}", f"+{names[n - 1]}") for n in (1, 2, 3)),
    ]


def token_table(name: str, tokens: Sequence[ScoredToken], words: Words) -> TokenTable:
    """The table of one model's scores."""
    t = words.t
    processed = (t["after_settings"],) if has_processed(tokens) else ()
    rows = [
        Row(label, _numbers(token.score, bool(processed), words), (_others(token, words),))
        for label, token in _labelled(tokens)
    ]
    heads = (t["probability"], *processed, t["bits"], t["rank"])
    return TokenTable(name, heads, (t["runners_up"],), tuple(rows))


def compared_table(
    name: str,
    tokens: Sequence[ScoredToken],
    others: Sequence[ScoredToken],
    gains: Sequence[float | None],
    *,
    models: tuple[str, str],
    words: Words,
) -> TokenTable:
    """The table of two models' scores of the same tokens."""
    rows = [
        Row(
            label,
            (
                *(n for one in (ours, theirs) for n in _numbers(one.score, False, words)),
                words.local(signed_bits(gain)),
            ),
            (_others(ours, words), _others(theirs, words)),
        )
        for (label, ours), theirs, gain in zip(_labelled(tokens), others, gains, strict=True)
    ]
    heads = [
        words.say("of_model", model=model, what=words.t[what])
        for model in models
        for what in ("probability", "bits", "rank")
    ]
    other_heads = tuple(
        words.say("of_model", model=model, what=words.t["runners_up"]) for model in models
    )
    return TokenTable(name, (*heads, words.t["bits_gained"]), other_heads, tuple(rows))


def _labelled(tokens: Sequence[ScoredToken]) -> Iterator[tuple[str, ScoredToken]]:
    labels = bracketed([token.token for token in tokens])
    return ((cut(label, MAX_TOKEN), one) for label, one in zip(labels, tokens, strict=True))


def _numbers(score: TokenScore | None, is_processed: bool, words: Words) -> tuple[str, ...]:
    if score is None:
        return (NO_SCORE,) * (3 + is_processed)
    after = (probability(score.processed_probability or 0.0),) if is_processed else ()
    numbers = (probability(score.probability), *after, _bits(score), f"{score.rank:,}")
    return tuple(map(words.local, numbers))


def _bits(score: TokenScore) -> str:
    """The bits of a token."""
    return f"{score.surprisal_bits:.2f}".replace("inf", "∞")


def _others(token: ScoredToken, words: Words) -> str:
    if token.score is None:
        return ""
    found = zip(token.runners_up, token.score.runners_up, strict=True)
    return _GAP.join(
        f"{cut(text, MAX_TOKEN)}\N{NO-BREAK SPACE}{words.local(_likely(other))}"
        for text, other in found
    )


def _likely(other: RunnerUp) -> str:
    """How likely a runner-up was, and what settings made of it."""
    after = other.processed_probability
    return probability(other.probability) + ("" if after is None else f"→{probability(after)}")
