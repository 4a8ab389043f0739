"""The token account of a corpus -> what a person sees of it.

In: counts. Out: a rich renderable whose lines fit a terminal of 40 columns; what a token spells
never reaches a terminal raw. Must not import torch or transformers, and rich only to draw.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gptft.documents.sources import account_of_skipped
from gptft.terminal.text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from gptft.inspection.counts import CountedToken, Counts

_SHOWN = 10  # of a list
_SHOWN_SCRIPTS = 5


def render_counts(counts: "Counts") -> "RenderableType":
    """Lay the account out: what there is, what it costs, and what stands out."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_totals(counts)]
    lists = [
        ("Scripts, by characters", _scripts(counts)),
        ("Most frequent tokens", _tokens(counts.frequent, of=counts.tokens)),
        ("Longest tokens that occurred", _tokens(counts.longest, of=counts.tokens)),
        (_words_title(counts), _words(counts)),
    ]
    for title, rows in lists:
        if rows:
            parts += [Text(""), Text(title, style="bold"), _columns(rows, "lrr")]
    return Group(*parts)


def _totals(counts: "Counts") -> "Table":
    rows = [
        ("tokens", f"{counts.tokens:,}", ""),
        ("words", f"{counts.words:,}", _rate(counts.tokens_per_word, "tokens each")),
        ("characters", f"{counts.characters:,}", _rate(counts.characters_per_token, "a token")),
        ("bytes", f"{counts.bytes:,}", _rate(counts.bytes_per_token, "a token")),
        ("files", f"{counts.files:,}", ""),
        ("documents", f"{counts.documents:,}", ""),
        ("vocabulary", f"{counts.vocab_size:,}", f"{counts.unused:,} never used"),
    ]
    if counts.fallback_tokens:
        share = _share(counts.fallback_bytes, counts.bytes)
        rows.append(("byte tokens", f"{counts.fallback_tokens:,}", f"{share} of the bytes"))
    if counts.unknown_tokens:
        share = _share(counts.unknown_tokens, counts.tokens)
        rows.append(("unknown", f"{counts.unknown_tokens:,}", f"{share} of the tokens"))
    if counts.skipped:
        number, _, reasons = account_of_skipped(counts.skipped).partition(" (")
        rows.append(("passed over", number.split()[0], reasons.removesuffix(")")))
    return _columns(rows, "lrl")


def _scripts(counts: "Counts") -> list[tuple[str, str, str]]:
    shown = [*counts.scripts.items()][:_SHOWN_SCRIPTS]
    rest = counts.characters - sum(number for _, number in shown)
    if rest:
        shown.append((f"{len(counts.scripts) - len(shown)} more", rest))
    return [(name, f"{n:,}", _share(n, counts.characters)) for name, n in shown]


def _tokens(tokens: "Sequence[CountedToken]", *, of: int) -> list[tuple[str, str, str]]:
    return [
        (visible(one.bytes) or "(nothing)", f"{one.count:,}", _share(one.count, of))
        for one in tokens[:_SHOWN]
    ]


def _words(counts: "Counts") -> list[tuple[str, str, str]]:
    return [
        (visible(word.text.encode()), f"{word.count:,}", f"{word.tokens_per_word:.1f} tokens")
        for word in counts.worst_words[:_SHOWN]
    ]


def _words_title(counts: "Counts") -> str:
    share = "all" if counts.sampled_characters == counts.characters else f"{_sampled(counts)}"
    return f"Frequent words that are split most (in {share} of the text)"


def _sampled(counts: "Counts") -> str:
    return _share(counts.sampled_characters, counts.characters)


def _columns(rows: "Sequence[tuple[str, str, str]]", sides: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for side in sides:
        table.add_column(justify="right" if side == "r" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _rate(rate: float | None, unit: str) -> str:
    return "" if rate is None else f"{rate:.2f} {unit}"


def _share(part: int, whole: int) -> str:
    r"""A share in per cent, never 0 where there is something.

    >>> _share(1, 3), _share(1, 100_000)
    ('33.3%', '<0.1%')
    """
    share = part / max(whole, 1)
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
