"""A vocabulary's summary or a search in it -> tables."""

from gptft.inspection.vocabulary import VocabularyEntry, VocabularySearch, VocabularySummary
from gptft.terminal.draw import Drawn, Table, stacked
from gptft.terminal.text import visible
from gptft.terminal.words import count, percent

_LONG = 17  # from this length on tokens are counted together
_MAX_SHOWN = 20  # tokens of a kind; JSON has all


def search_view(found: VocabularySearch) -> Table:
    """A line a token: id, text, script, whether text is ever encoded to it."""
    rows = [(str(e.id), _shown(e), e.script, found.reachability[e.id].value) for e in found.entries]
    left = found.num_found - len(rows)
    title = count(found.num_found, "token") + (f", {left:,} not shown" if left else "")
    return Table(rows, "rlll", title)


def summary_view(summary: VocabularySummary) -> Drawn:
    """Facts, scripts, lengths, and the tokens that stand out."""
    ordinary = summary.num_tokens - len(summary.special)

    def share(number: int) -> str:
        return percent(number / ordinary) if ordinary else ""

    def first(entries: tuple[VocabularyEntry, ...]) -> str:
        return " ".join(map(_shown, entries[:_MAX_SHOWN]))

    known, columns = summary.num_embeddings, (summary.characters, summary.lengths)
    facts = [
        ("tokens", f"{summary.num_tokens:,}", summary.kind),
        ("ids", f"{summary.num_ids:,}", "" if known is None else f"the model knows {known:,}"),
        ("special", f"{len(summary.special):,}", first(summary.special)),
        ("added", f"{len(summary.added):,}", first(summary.added)),
        ("space in front", f"{summary.num_with_space:,}", share(summary.num_with_space)),
        ("not whole alone", f"{summary.num_partial:,}", share(summary.num_partial)),
        ("unreachable", f"{len(summary.unreachable):,}", "proved: no text gives them"),
        ("not reached", f"{len(summary.unknown):,}", "by the texts tried: not proved"),
    ]
    scripts = [(name, f"{number:,}", share(number)) for name, number in summary.scripts.items()]
    lengths = [(str(n), *(f"{c.get(n, 0):,}" for c in columns)) for n in range(1, _LONG)]
    lengths += [(f"≥ {_LONG}", *(f"{sum(c[n] for n in c if n >= _LONG):,}" for c in columns))]
    return stacked(
        Table(facts, "lrl", summary.name),
        Table(scripts, "lrr", "By script"),
        Table(lengths, "rrr", "By length in", ("", "characters", "bytes")),
        *_token_rows("Longest", summary.longest),
        *_token_rows("Unreachable", summary.unreachable),
        *_token_rows("Not reached", summary.unknown),
    )


def _shown(entry: VocabularyEntry) -> str:
    return visible(entry.bytes or entry.token)


def _token_rows(title: str, entries: tuple[VocabularyEntry, ...]) -> list[Table]:
    if not entries:
        return []
    rows = [(str(e.id), _shown(e), count(len(e.bytes), "byte")) for e in entries[:_MAX_SHOWN]]
    left = len(entries) - len(rows)
    return [Table(rows, "rll", title + (f", {left:,} more not shown" if left else ""))]
