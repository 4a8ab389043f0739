"""Scored tokens -> what a person sees of them: text on colours, a table of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from gptft.analysis.scored_tokens import ScoredToken, TokenScore
from gptft.inspection.token_view import bracketed
from gptft.terminal.cells import cut
from gptft.terminal.draw import (
    GAP,
    Cell,
    Drawn,
    Table,
    has_colour,
    plain_lines,
    probability_legend,
    probability_style,
)
from gptft.terminal.text import readable
from gptft.terminal.words import probability
from gptft.tokenization.tokens import group_by_characters

MAX_TOKEN = 24  # cells
MAX_NAME = 16  # cells of a model's name in a head
_MIN_OTHERS = 36  # cells that runners-up need to stand beside the numbers


class Spot(NamedTuple):
    """Complete characters of a text.

    Attributes:
        raw: the bytes.
        num_tokens: how many there are.
        probability: of all tokens in them; None where one has no score.
        processed_probability: the same after all processors, where there were some.
    """

    raw: bytes
    num_tokens: int
    probability: float | None
    processed_probability: float | None


class Beside(NamedTuple):
    """What another model makes of the same tokens.

    Attributes:
        name: of the model, for a head.
        tokens: with its scores.
    """

    name: str
    tokens: Sequence[ScoredToken]


def text_view(tokens: Sequence[ScoredToken]) -> Drawn:
    """A text on colours that say how likely each token was, and what they mean.

    Tokens that make up one character are one spot, coloured by what they are together. Without
    colours it is `token_table` instead.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        if not has_colour(console):
            yield token_table(tokens)
            return
        legend = probability_legend()
        if any(token.score is None for token in tokens):
            legend.append(", ").append("not scored", "dim")
        yield legend
        yield ""
        yield from _coloured_lines(tokens)

    return Drawn(draw)


def token_table(tokens: Sequence[ScoredToken], beside: Beside | None = None) -> Drawn:
    """A line a scored token: its text, how likely it was, what else was likely.

    In columns on a terminal; narrow ones have the other tokens on a line of their own.
    """

    def draw(console: Console, width: int) -> Iterable[Table | Segment]:
        heads = _Heads(
            ["after"] * has_processed(tokens), [] if beside is None else [f"{beside.name} bits"]
        )
        rows = _rows(tokens, None if beside is None else beside.tokens)
        if console.is_terminal:
            return _fitted([*rows], heads, console=console, width=width)
        return [plain_lines(_exact_lines(rows, heads))]

    return Drawn(draw)


def why_view(tokens: Sequence[ScoredToken]) -> Drawn:
    """A text and, below it, how likely each of its scored tokens was: `text_view`, `token_table`.

    Without colours the text is plain.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType | Segment]:
        if has_colour(console):
            yield text_view(tokens)
            yield ""
        else:
            yield plain_lines([readable(b"".join(spot.raw for spot in text_spots(tokens))), ""])
        yield token_table(tokens)

    return Drawn(draw)


def _coloured_lines(tokens: Sequence[ScoredToken]) -> Iterator[Text]:
    """The text, a `Text` for each of its lines: one long `Text` is slow to draw."""
    line = Text()
    for spot in text_spots(tokens):
        style = "dim" if spot.probability is None else probability_style(spot.probability)
        *ended, rest = readable(spot.raw).split("\n")
        for part in ended:
            yield line.append(part, style)
            line = Text()
        line.append(rest, style)
    if line:
        yield line


def text_spots(tokens: Sequence[ScoredToken]) -> Iterator[Spot]:
    """The text of tokens in stretches of complete characters, mostly a token each."""
    waiting = iter(tokens)
    for group in group_by_characters([token.token for token in tokens]):
        scores = [next(waiting).score for _ in group]
        raw = b"".join(token.bytes for token in group) or group[0].token.encode()
        logprobs = [None if score is None else score.logprob for score in scores]
        after = [None if score is None else score.processed_logprob for score in scores]
        yield Spot(raw, len(group), _together(logprobs), _together(after))


def _together(logprobs: Sequence[float | None]) -> float | None:
    """The probability of tokens that follow each other; None where one has none."""
    known = [logprob for logprob in logprobs if logprob is not None]
    return math.exp(sum(known)) if len(known) == len(logprobs) else None


class _Row(NamedTuple):
    """A scored token as the table has it; tokens of one character are bracketed together."""

    label: str
    score: TokenScore
    runners_up: tuple[str, ...]
    other: TokenScore | None = None

    @property
    def bits(self) -> str:
        """How surprising the token was."""
        return bits_text(self.score)

    @property
    def other_bits(self) -> str:
        """How surprising it was for the other model."""
        return bits_text(self.other)

    @property
    def others(self) -> list[tuple[str, float]]:
        """The runners-up, each with its probability."""
        found = zip(self.runners_up, self.score.runners_up, strict=True)
        return [(label, likely) for label, (_, likely, _) in found]


class _Heads(NamedTuple):
    """Columns that not every table has: none or one each."""

    after: list[str]
    other: list[str]


def bits_text(score: TokenScore | None) -> str:
    """Bits of a token in a table; a dash where it has no score."""
    if score is None:
        return "–"
    return f"{score.surprisal_bits:.1f}" if math.isfinite(score.surprisal_bits) else "∞"


def _rows(
    tokens: Sequence[ScoredToken], others: Sequence[ScoredToken] | None = None
) -> Iterator[_Row]:
    """A row a scored token, with the score of the same one of another model."""
    labels = bracketed([token.token for token in tokens if token.score is not None])
    beside = repeat(None) if others is None else others
    scored = ((one, other) for one, other in zip(tokens, beside, strict=False) if one.score)
    for label, (token, other) in zip(labels, scored, strict=True):
        if token.score is not None:
            yield _Row(label, token.score, token.runners_up, other.score if other else None)


def has_processed(tokens: Sequence[ScoredToken]) -> bool:
    """Whether the scores of a text, which are all of one kind, say what processors did."""
    score = next((token.score for token in tokens if token.score is not None), None)
    return score is not None and score.processed_logprob is not None


def _exact_lines(rows: Iterable[_Row], heads: _Heads) -> Iterator[str]:
    """A table with tabs and probabilities in full, for a script."""
    names = ("token", "id", "probability", *heads.after, "rank", "bits", *heads.other, "runners-up")
    yield "\t".join(names)
    for row in rows:
        cells = (
            row.label,
            str(row.score.token_id),
            exact(row.score.probability),
            *[exact(row.score.processed_probability)] * len(heads.after),
            str(row.score.rank),
            row.bits,
            *[row.other_bits] * len(heads.other),
            " ".join(f"{label} {exact(likely)}" for label, likely in row.others),
        )
        yield "\t".join(cells)


def exact(value: float | None) -> str:
    """A probability for a script; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def _fitted(
    rows: Sequence[_Row], extra: _Heads, *, console: Console, width: int
) -> Iterator[Table | Segment]:
    """Columns within `width` cells; the likeliest others at the end, or below where it's narrow."""
    cells: list[list[Cell]] = [
        [
            Text(cut(row.label, MAX_TOKEN), probability_style(row.score.probability)),
            probability(row.score.probability),
            *[probability(row.score.processed_probability or 0.0)] * len(extra.after),
            f"{row.score.rank:,}",
            row.bits,
            *[row.other_bits] * len(extra.other),
        ]
        for row in rows
    ]
    named = [cut(name, MAX_NAME) for name in extra.other]
    heads = ("token", "prob", *extra.after, "rank", "bits", *named)
    table = Table(cells, "c" + "r" * (len(heads) - 1), heads=heads)
    room = width - sum(table.widths(width)) - len(GAP) * len(heads)
    if room >= _MIN_OTHERS:
        others = [Text(_as_many_as_fit(row.others, width=room), "dim") for row in rows]
        beside = [[*row, other] for row, other in zip(cells, others, strict=True)]
        yield Table(beside, f"{table.align}l", heads=(*heads, "runners-up"))
        return
    below = ["", *(_as_many_as_fit(row.others, width=width - len(GAP)) for row in rows)]
    for line, listed in zip(table.lines(console, width), below, strict=True):
        yield from (*line, Segment.line())
        if listed:
            yield from (Segment(f"{GAP}{listed}", console.get_style("dim")), Segment.line())


def _as_many_as_fit(others: Sequence[tuple[str, float]], *, width: int) -> str:
    line = ""
    for label, likely in others:
        longer = f"{line}{GAP if line else ''}{label} {probability(likely)}"
        if cell_len(longer) > width:
            break
        line = longer
    return line
