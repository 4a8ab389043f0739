"""A scored text -> what a person sees of it: text on colours, a table of its tokens, numbers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
from gptft.terminal.text import readable, visible
from gptft.terminal.words import count, probability
from gptft.tokenization.tokens import group_by_characters

if TYPE_CHECKING:
    from gptft.analysis.score import TextScore

_MAX_TOKEN = 24  # cells
_MIN_OTHERS = 36  # cells that runners-up need to stand beside the numbers


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


def token_table(tokens: Sequence[ScoredToken]) -> Drawn:
    """A line a scored token: its text, how likely it was, what else was likely.

    In columns on a terminal; narrow ones have the other tokens on a line of their own.
    """

    def draw(console: Console, width: int) -> Iterable[Table | Segment]:
        after = ["after"] * _has_processed(tokens)
        if console.is_terminal:
            return _fitted([*_rows(tokens)], after, console=console, width=width)
        return [plain_lines(_exact_lines(_rows(tokens), after))]

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
            yield plain_lines([readable(b"".join(raw for raw, _ in _spots(tokens))), ""])
        yield token_table(tokens)

    return Drawn(draw)


def text_score_summary(score: "TextScore") -> str:
    """The numbers of a whole text, and what they rest on, in a few lines.

    Bits per byte compare across tokenizers, perplexity doesn't.
    """
    per_byte = score.bits_per_byte
    lines = [
        f"perplexity {_rounded(score.perplexity)}, "
        + (f"{per_byte:.3f} bits per byte, " if per_byte is not None else "")
        + f"{score.bits_per_token:.2f} bits per token",
        f"{_rounded(score.bits)} bits for {count(score.num_tokens, 'token')}, "
        f"{count(score.num_bytes, 'byte')}",
    ]
    if score.begins_after is None:
        lines.append("The first token isn't scored: the model has neither BOS nor EOS before it.")
    else:
        lines.append(f"The first token is scored after {visible(score.begins_after)}.")
    if score.context is not None:
        lines.append(
            f"Longer than the model's context of {score.context:,}: beyond it each token is scored "
            f"after at least {score.context // 2:,} others."
        )
    return "\n".join(lines)


def _rounded(number: float) -> str:
    return f"{number:,.2f}" if number < 1e6 else f"{number:.3g}"


def _coloured_lines(tokens: Sequence[ScoredToken]) -> Iterator[Text]:
    """The text, a `Text` for each of its lines: one long `Text` is slow to draw."""
    line = Text()
    for raw, likely in _spots(tokens):
        style = "dim" if likely is None else probability_style(likely)
        *ended, rest = readable(raw).split("\n")
        for part in ended:
            yield line.append(part, style)
            line = Text()
        line.append(rest, style)
    if line:
        yield line


def _spots(tokens: Sequence[ScoredToken]) -> Iterator[tuple[bytes, float | None]]:
    """Complete characters, and the probability of all tokens in them; None without a score."""
    waiting = iter(tokens)
    for group in group_by_characters([token.token for token in tokens]):
        scores = [next(waiting).score for _ in group]
        raw = b"".join(token.bytes for token in group) or group[0].token.encode()
        logprobs = [score.logprob for score in scores if score is not None]
        yield raw, math.exp(sum(logprobs)) if len(logprobs) == len(group) else None


class _Row(NamedTuple):
    """A scored token as the table has it; tokens of one character are bracketed together."""

    label: str
    score: TokenScore
    runners_up: tuple[str, ...]

    @property
    def bits(self) -> str:
        """How surprising the token was."""
        bits = self.score.surprisal_bits
        return f"{bits:.1f}" if math.isfinite(bits) else "∞"

    @property
    def others(self) -> list[tuple[str, float]]:
        """The runners-up, each with its probability."""
        found = zip(self.runners_up, self.score.runners_up, strict=True)
        return [(label, likely) for label, (_, likely, _) in found]


def _rows(tokens: Sequence[ScoredToken]) -> Iterator[_Row]:
    """A row a scored token."""
    labels = bracketed([token.token for token in tokens if token.score is not None])
    scored = (token for token in tokens if token.score is not None)
    for label, token in zip(labels, scored, strict=True):
        if token.score is not None:
            yield _Row(label, token.score, token.runners_up)


def _has_processed(tokens: Sequence[ScoredToken]) -> bool:
    """Whether the scores of a text, which are all of one kind, say what processors did."""
    score = next((token.score for token in tokens if token.score is not None), None)
    return score is not None and score.processed_logprob is not None


def _exact_lines(rows: Iterable[_Row], after: Sequence[str]) -> Iterator[str]:
    """A table with tabs and probabilities in full, for a script."""
    yield "\t".join(("token", "id", "probability", *after, "rank", "bits", "runners-up"))
    for row in rows:
        cells = (
            row.label,
            str(row.score.token_id),
            exact(row.score.probability),
            *[exact(row.score.processed_probability)] * len(after),
            str(row.score.rank),
            row.bits,
            " ".join(f"{label} {exact(likely)}" for label, likely in row.others),
        )
        yield "\t".join(cells)


def exact(value: float | None) -> str:
    """A probability for a script; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def _fitted(
    rows: Sequence[_Row], after: Sequence[str], *, console: Console, width: int
) -> Iterator[Table | Segment]:
    """Columns within `width` cells; the likeliest others at the end, or below where it's narrow."""
    cells: list[list[Cell]] = [
        [
            Text(cut(row.label, _MAX_TOKEN), probability_style(row.score.probability)),
            probability(row.score.probability),
            *[probability(row.score.processed_probability or 0.0)] * len(after),
            f"{row.score.rank:,}",
            row.bits,
        ]
        for row in rows
    ]
    heads = ("token", "prob", *after, "rank", "bits")
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
