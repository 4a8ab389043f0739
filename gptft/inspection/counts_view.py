"""The token counts of a corpus -> what a person sees of them."""

from collections.abc import Sequence

from gptft.inspection.cost_view import rate
from gptft.inspection.counts import CountedToken, Counts
from gptft.terminal.draw import Drawn, Table, stacked
from gptft.terminal.text import visible
from gptft.terminal.words import percent, reasons_for_skipping

_SHOWN = 10  # of a list
_SHOWN_SCRIPTS = 5


def render_counts(counts: Counts) -> Drawn:
    """Lay the account out: what there is, what it costs, and what stands out."""
    sampled = (
        "all"
        if counts.sampled_characters == counts.characters
        else _share(counts.sampled_characters, counts.characters)
    )
    words = [
        (visible(word.text), f"{word.count:,}", f"{word.tokens_per_word:.1f} tokens")
        for word in counts.worst_words[:_SHOWN]
    ]
    tables = [
        Table(_scripts(counts), "lrr", "Scripts, by characters"),
        Table(_tokens(counts.frequent, of=counts.tokens), "lrr", "Most frequent tokens"),
        Table(_tokens(counts.longest, of=counts.tokens), "lrr", "Longest tokens that occurred"),
        Table(words, "lrr", f"Frequent words that are split most (in {sampled} of the text)"),
    ]
    return stacked(Table(_totals(counts), "lrl"), *(table for table in tables if table.rows))


def _totals(counts: Counts) -> list[tuple[str, str, str]]:
    rows = [
        ("tokens", counts.tokens, ""),
        ("words", counts.words, rate(counts.tokens_per_word, "tokens each")),
        ("characters", counts.characters, rate(counts.characters_per_token, "a token")),
        ("bytes", counts.bytes, rate(counts.bytes_per_token, "a token")),
        ("files", counts.files, ""),
        ("documents", counts.documents, ""),
        ("vocabulary", counts.vocab_size, f"{counts.unused:,} never used"),
    ]
    if counts.fallback_tokens:
        share = _share(counts.fallback_bytes, counts.bytes)
        rows.append(("byte tokens", counts.fallback_tokens, f"{share} of the bytes"))
    if counts.unknown_tokens:
        share = _share(counts.unknown_tokens, counts.tokens)
        rows.append(("unknown", counts.unknown_tokens, f"{share} of the tokens"))
    if counts.skipped:
        reasons = reasons_for_skipping(counts.skipped)
        rows.append(("skipped", sum(counts.skipped.values()), reasons))
    return [(name, f"{number:,}", note) for name, number, note in rows]


def _scripts(counts: Counts) -> list[tuple[str, str, str]]:
    shown = [*counts.scripts.items()][:_SHOWN_SCRIPTS]
    rest = counts.characters - sum(number for _, number in shown)
    if rest:
        shown.append((f"{len(counts.scripts) - len(shown)} more", rest))
    return [(name, f"{n:,}", _share(n, counts.characters)) for name, n in shown]


def _tokens(tokens: Sequence[CountedToken], *, of: int) -> list[tuple[str, str, str]]:
    return [
        (visible(one.bytes) or "(nothing)", f"{one.count:,}", _share(one.count, of))
        for one in tokens[:_SHOWN]
    ]


def _share(part: int, whole: int) -> str:
    return percent(part / max(whole, 1))
