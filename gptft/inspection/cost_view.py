"""Measured texts -> what they cost in tokens, and tokenizers side by side, as a person sees it."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderResult
from rich.text import Text

from gptft.inspection.cost import MeasuredText
from gptft.inspection.token_view import PARTIAL, tokens_in_rows
from gptft.terminal.draw import Drawn, Table
from gptft.terminal.text import visible
from gptft.terminal.words import count, percent


def comparison_view(measured: Sequence[MeasuredText]) -> Drawn:
    """Tokenizers of the same text below one another: their numbers, then the tokens of each.

    Off a terminal it is a line a tokenizer, with tabs, under a heading; the tokens are last.
    """

    def draw(console: Console, width: int) -> RenderResult:
        if not console.is_terminal:
            heads = ("model", "tokens", "tokens a word", "bytes a token", "text")
            yield Table([_exact_cells(one) for one in measured], "lllll", heads=heads)
            return
        costs = [(one.model, one.cost) for one in measured]
        rows = [
            (model, f"{cost.num_tokens:,}", rate(cost.tokens_per_word), rate(cost.bytes_per_token))
            for model, cost in costs
        ]
        yield Table(rows, "lrrr", heads=("", "tokens", "a word", "bytes each"))
        for one in measured:
            yield Text(f"\n{one.model}", "bold", overflow="fold")
            yield from tokens_in_rows(one.tokens, console=console, width=width)

    return Drawn(draw)


def cost_view(measured: MeasuredText) -> Drawn:
    """The numbers of a text."""
    cost = measured.cost
    rows = [
        ("tokens", f"{cost.num_tokens:,}", ""),
        ("words", f"{cost.num_words:,}", rate(cost.tokens_per_word, "tokens each")),
        ("characters", f"{cost.num_characters:,}", rate(cost.tokens_per_character, "tokens each")),
        ("bytes", f"{cost.num_bytes:,}", rate(cost.bytes_per_token, "a token")),
    ]
    tables = (Table(rows, "lrl"), Table([*_comparisons(measured)], "nl"))
    return Drawn(lambda console, width: tables)


def rate(value: float | None, unit: str = "") -> str:
    """A rate with its unit, or nothing where it isn't known.

    >>> rate(1.5, "tokens each"), rate(None)
    ('1.50 tokens each', '')
    """
    return "" if value is None else f"{value:.2f} {unit}".rstrip()


def contexts_in_words(measured: MeasuredText) -> list[str]:
    """How full each context is: `1,024 (its own) 1.4%`."""
    return [
        f"{size:,}{' (its own)' if size == measured.context else ''} {percent(share)}"
        for size, share in measured.context_used.items()
    ]


def costs_instead(measured: MeasuredText) -> list[str]:
    """What the text would cost in other units, one token each, and how often its cost that is."""
    num_tokens = measured.cost.num_tokens
    return [
        f"{count(number, unit.removesuffix('s'))} ({number / num_tokens:.2f}x)"
        for unit, number in measured.cost.one_token_each.items()
        if num_tokens
    ]


def seen_around(measured: MeasuredText) -> str:
    """What a model is given around the text, in words: `<s> (id 1) before it`; maybe nothing."""
    around = ((measured.before, "before"), (measured.after, "after"))
    return ", ".join(
        f"{visible(token)} (id {i:,}) {where} it" for tokens, where in around for i, token in tokens
    )


def _comparisons(measured: MeasuredText) -> Iterator[tuple[str, str]]:
    """What a text's tokens are compared with, by name."""
    cost = measured.cost
    if not cost.num_tokens:
        return
    if cost.num_words:
        rates = (
            rate(cost.characters_per_word, "characters"),
            rate(cost.bytes_per_word, "bytes"),
            rate(cost.tokens_per_word, "tokens"),
        )
        yield "a word", ", ".join(rates)
    yield "one token each", ", ".join(costs_instead(measured))
    yield "of a context", ", ".join(contexts_in_words(measured))
    if around := seen_around(measured):
        yield "a model also sees", f"{around}, which isn't counted here"
    if number := measured.num_partial:
        yield f"partial ({PARTIAL})", f"{count(number, 'token')}, text only with their neighbours"


def _exact_cells(measured: MeasuredText) -> list[str]:
    rates = (measured.cost.tokens_per_word, measured.cost.bytes_per_token)
    return [
        measured.model,
        str(measured.cost.num_tokens),
        *("" if value is None else f"{value:.4g}" for value in rates),
        " ".join(token.shown for token in measured.tokens),
    ]
