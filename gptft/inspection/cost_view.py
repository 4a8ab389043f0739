"""Measured texts -> their numbers, and tokenizers side by side, as a person sees them.

In: what `measure` found. Out: rich renderables that suit their console, and the same in words.
Must not import torch or transformers, and rich only to draw.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gptft.inspection.cost import MeasuredText
from gptft.inspection.token_view import (
    GAP,
    PARTIAL,
    Drawn,
    chopped,
    plain,
    shown_token,
    tokens_in_rows,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

_HEADS = ("tokens", "a word", "bytes each")


def comparison_view(measured: Sequence[MeasuredText]) -> Drawn:
    """Tokenizers of the same text below one another: their numbers, then the pieces of each.

    Off a terminal it is a line a tokenizer, with tabs, under a heading; the pieces are last.
    """

    def draw(console: "Console", width: int) -> Iterable["Segment"]:
        if console.is_terminal:
            return _compared(measured, console=console, width=width)
        return plain(_compared_lines(measured))

    return Drawn(draw)


def cost_view(measured: MeasuredText) -> Drawn:
    """The numbers of a text, in lines that fit a terminal."""

    def draw(console: "Console", width: int) -> Iterable["Segment"]:
        return plain(_cost_lines(measured, width=width if console.is_terminal else None))

    return Drawn(draw)


def percent(share: float) -> str:
    """A share of a context.

    >>> percent(0.0137), percent(0.0001), percent(0.0), percent(25.3)
    ('1.4%', '<0.1%', '0%', '2,530%')
    """
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.9995 else f"{share:,.0%}"


def contexts_in_words(measured: MeasuredText) -> list[str]:
    """How full each context is: `1,024 (its own) 1.4%`."""
    return [
        f"{size:,}{' (its own)' if size == measured.context else ''} {percent(share)}"
        for size, share in measured.context_used.items()
    ]


def costs_instead(measured: MeasuredText) -> list[str]:
    """What the text would cost in other units, one token each, and how often its cost that is."""
    cost = measured.cost
    counts = [("words", cost.num_words), ("characters", cost.num_characters)]
    return [
        f"{count:,} {unit} ({count / cost.num_tokens:.2f}x)"
        for unit, count in [*counts, ("bytes", cost.num_bytes)]
        if cost.num_tokens
    ]


def _compared(
    measured: Sequence[MeasuredText], *, console: "Console", width: int
) -> Iterator["Segment"]:
    from rich.segment import Segment
    from rich.style import Style

    yield from _table(measured, width=width)
    for one in measured:
        yield Segment.line()
        for name in chopped(one.model, width):
            yield Segment(name, Style(bold=True))
            yield Segment.line()
        yield from tokens_in_rows(one.tokens, console=console, width=width)


def _cost_lines(measured: MeasuredText, *, width: int | None) -> Iterator[str]:
    cost = measured.cost
    rows = [
        ("tokens", cost.num_tokens, ""),
        ("words", cost.num_words, _rate(cost.tokens_per_word, "tokens each")),
        ("characters", cost.num_characters, _rate(cost.tokens_per_character, "tokens each")),
        ("bytes", cost.num_bytes, _rate(cost.bytes_per_token, "a token")),
    ]
    digits = max(len(f"{count:,}") for _, count, _ in rows)
    for name, count, rate in rows:
        yield f"{name:<10}{GAP}{count:>{digits},}{GAP}{rate}".rstrip()
    if not cost.num_tokens:
        return
    rates = [
        _rate(cost.characters_per_word, "characters"),
        _rate(cost.bytes_per_word, "bytes"),
        _rate(cost.tokens_per_word, "tokens"),
    ]
    if cost.num_words:
        yield from _listed("a word", rates, width=width)
    yield from _listed("one token each", costs_instead(measured), width=width)
    yield from _listed("of a context", contexts_in_words(measured), width=width)
    if num := measured.num_partial:
        said = [f"{num:,} {'token' if num == 1 else 'tokens'}", "text only with their neighbours"]
        yield from _listed(f"partial ({PARTIAL})", said, width=width)


def _listed(name: str, parts: Sequence[str], *, width: int | None) -> Iterator[str]:
    """A name and parts with commas, wrapped to `width` between them, in a column of their own."""
    line = f"{name:<14}{GAP}"
    indent = " " * len(line)
    if width is not None and len(indent) + max(map(len, parts)) >= width:
        yield line.rstrip()
        line = indent = GAP
    for number, part in enumerate(parts):
        text = part if number == len(parts) - 1 else f"{part}, "
        if width is not None and line.strip() and len(line) + len(text.rstrip()) > width:
            yield line.rstrip()
            line = indent
        line += text
    yield line


def _rate(rate: float | None, unit: str) -> str:
    return "" if rate is None else f"{rate:.2f} {unit}"


def _numbers(measured: MeasuredText) -> tuple[str, str, str]:
    cost = measured.cost
    rates = ("" if rate is None else f"{rate:.2f}" for rate in _rates(measured))
    per_word, per_token = rates
    return f"{cost.num_tokens:,}", per_word, per_token


def _rates(measured: MeasuredText) -> tuple[float | None, float | None]:
    return measured.cost.tokens_per_word, measured.cost.bytes_per_token


def _table(measured: Sequence[MeasuredText], *, width: int) -> Iterator["Segment"]:
    """A line a tokenizer; a name too long for its column has a line of its own."""
    from rich.cells import cell_len, set_cell_size
    from rich.segment import Segment
    from rich.style import Style

    rows = [(one.model, _numbers(one)) for one in measured]
    widths = [
        max(map(len, column)) for column in zip(_HEADS, *(cells for _, cells in rows), strict=True)
    ]
    room = width - sum(widths) - len(GAP) * len(widths)
    name_width = max(min(max(cell_len(name) for name, _ in rows), room), 0)

    def line(name: str, cells: Sequence[str]) -> str:
        right = (f"{GAP}{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
        return set_cell_size(name, name_width) + "".join(right)

    yield Segment(line("", _HEADS), Style(dim=True))
    yield Segment.line()
    for name, cells in rows:
        if cell_len(name) > name_width:
            yield Segment("".join(f"{part}\n" for part in chopped(name, width)))
            name = ""
        yield Segment(line(name, cells))
        yield Segment.line()


def _compared_lines(measured: Sequence[MeasuredText]) -> Iterator[str]:
    yield "model\ttokens\ttokens a word\tbytes a token\tpieces"
    for one in measured:
        rates = ("" if rate is None else f"{rate:.4g}" for rate in _rates(one))
        pieces = " ".join(shown_token(piece) for piece in one.tokens)
        yield "\t".join([one.model, str(one.cost.num_tokens), *rates, pieces])
