"""A scored text -> what a person sees: its tokens, its numbers, what another model changes."""

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from gptft.analysis.text_view import (
    MAX_NAME,
    MAX_TOKEN,
    Beside,
    bits_text,
    text_view,
    token_table,
)
from gptft.inspection.token_view import bracketed
from gptft.terminal.cells import cut
from gptft.terminal.draw import Cell, Drawn, Table, has_colour, plain_lines, probability_style
from gptft.terminal.text import escaped, visible
from gptft.terminal.words import count, probability

if TYPE_CHECKING:
    from gptft.analysis.score import TextScore

_MOST_CHANGED = 10  # tokens that are listed


def score_view(score: "TextScore") -> Drawn:
    """The tokens of a scored text, and of the other model's, where there is one.

    The same tokens are one table with a column more, or, in colours, the text and what differs
    most; other tokens are two texts.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        other = score.other
        if other is None:
            yield text_view(score.tokens)
        elif not score.has_same_tokens:
            yield _titled(score, console)
            yield _titled(other, console)
        elif not has_colour(console):
            yield token_table(score.tokens, Beside(short_name(other.model), other.tokens))
        else:
            yield text_view(score.tokens)
            if rows := [*_changes(score)]:
                yield ""
                yield Table(rows, "crrrr", heads=("changed most", *_change_heads(score)))

    return Drawn(draw)


def most_changed(gains: Sequence[float | None], *, at_most: int) -> list[int]:
    """The places of the tokens that two models need the most different bits for, that one first.

    >>> most_changed([0.5, -3.0, None, 0.0, 2.0], at_most=3)
    [1, 4, 0]
    """
    places = (at for at, gain in enumerate(gains) if gain)
    return heapq.nsmallest(at_most, places, key=lambda at: (-abs(gains[at] or 0.0), at))


def signed_bits(value: float | None) -> str:
    """Bits with their sign, as the minus of typography; a dash where there are none."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def text_score_summary(score: "TextScore") -> str:
    """The numbers of a whole text, and what they rest on, in a few lines; of both models, if two.

    Bits per byte compare across tokenizers, perplexity doesn't.
    """
    if score.other is None:
        return "\n".join(score_lines(score))
    lines = []
    for one in (score, score.other):
        lines += [f"{escaped(one.model)}:", *(f"  {line}" for line in score_lines(one))]
    return "\n".join([*lines, compared_in_words(score)])


def compared_in_words(score: "TextScore") -> str:
    """What one model needs beside the other, in a sentence or two; empty without another."""
    if score.other is None:
        return ""
    ours, theirs = (escaped(one.model) for one in (score, score.other))
    if not score.has_same_tokens:
        rates = " and ".join(
            "unknown" if rate is None else f"{rate:.3f}"
            for rate in (score.bits_per_byte, score.other.bits_per_byte)
        )
        return (
            f"{ours} and {theirs} cut the text into different tokens, so only bits per byte "
            f"compare: {rates}."
        )
    bits = score.other.bits - score.bits
    if not math.isfinite(bits):
        return f"{ours} and {theirs} don't compare: one of them gives a token no chance at all."
    than = "more" if bits < 0 else "fewer"
    return f"{ours} needs {rounded_bits(abs(bits))} bits {than} than {theirs}."


def score_lines(score: "TextScore") -> list[str]:
    """The numbers of a text for one model, and what they rest on."""
    per_byte = score.bits_per_byte
    lines = [
        f"perplexity {rounded_bits(score.perplexity)}, "
        + (f"{per_byte:.3f} bits per byte, " if per_byte is not None else "")
        + f"{score.bits_per_token:.2f} bits per token",
        f"{rounded_bits(score.bits)} bits for {count(score.num_tokens, 'token')}, "
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
    return lines


def short_name(model: str) -> str:
    """The last part of a model's name or path, nothing hidden in it."""
    return escaped(model.rstrip("/").rsplit("/", 1)[-1] or model)


def _titled(score: "TextScore", console: Console) -> Drawn:
    """A text under the name of its model."""

    def draw(console: Console, width: int) -> Iterator[RenderableType | Segment]:
        name = escaped(score.model)
        yield Text(name, "bold") if console.is_terminal else plain_lines([f"# {name}"])
        yield text_view(score.tokens)

    return Drawn(draw)


def _change_heads(score: "TextScore") -> tuple[str, ...]:
    other = score.other.model if score.other is not None else ""
    return "prob", f"{cut(short_name(other), MAX_NAME)} prob", "bits", "gained"


def _changes(score: "TextScore") -> Iterator[Sequence[Cell]]:
    """The tokens that changed most: their probability, the other model's, bits, bits gained."""
    if score.other is None or score.gains is None:
        return
    labels = [*bracketed([token.token for token in score.tokens])]
    for at in most_changed(score.gains, at_most=_MOST_CHANGED):
        ours, theirs = score.tokens[at].score, score.other.tokens[at].score
        if ours is None or theirs is None:
            continue
        yield (
            Text(cut(labels[at], MAX_TOKEN), probability_style(ours.probability)),
            probability(ours.probability),
            probability(theirs.probability),
            bits_text(ours),
            signed_bits(score.gains[at]),
        )


def rounded_bits(number: float) -> str:
    """A number of bits, or a perplexity, of any size."""
    return f"{number:,.2f}" if number < 1e6 else f"{number:.3g}"
