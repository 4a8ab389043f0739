"""What of a run's texts is copied -> what a person reads of it."""

from gptft.analysis.memorization import Memorization, MemorizationSummary, TextMemorization
from gptft.terminal.text import escaped, quoted
from gptft.terminal.words import count, percent

_QUOTED = 400  # characters of a span that are shown; the middle of a longer one is left out
_PROMPT = 40  # characters of a prompt


def memorization_view(measured: Memorization) -> str:
    """How much of each text is copied, and of all of them beside held-out text."""
    lines = [
        "\n".join(_block(number, text)) + "\n" for number, text in enumerate(measured.texts, 1)
    ]
    lines.append(f"{count(len(measured.texts), 'text')}: {_account(measured.summary)}")
    if measured.held_out is not None:
        lines.append(f"held-out text: {_account(measured.held_out)}")
    return "\n".join(lines)


def what_it_means(measured: Memorization) -> str | None:
    """What makes the comparison with held-out text impossible or weak; None if nothing does."""
    if measured.held_out is None:
        return (
            "The run held no text out to compare this with (data.validation). Short runs of tokens "
            "occur in any text: by themselves they don't show that a text was copied."
        )
    if measured.held_out_duplicates:
        duplicates = count(measured.held_out_duplicates, "held-out document")
        return (
            f"Also in the training split: {duplicates}. So held-out text shares more with it than "
            "new text would."
        )
    return None


def _block(number: int, text: TextMemorization) -> list[str]:
    """The lines of one text."""
    copied, prompt = text.copied, text.text.prompt
    after = f" after {quoted(prompt, at_most=_PROMPT, keep='ends')}" if prompt else ""
    lines = [f"text {number:,}{after}: {count(text.num_tokens, 'token')}"]
    if not copied.longest or text.place is None:
        return [*lines, "  longest copy: none"]
    size = f"{count(copied.longest, 'token')}, {count(len(text.quote), 'character')}"
    quote = quoted(text.quote, at_most=_QUOTED, keep="ends")
    lines.append(f"  longest copy: {size}: {quote}")
    more = f", the first of {copied.num_places:,} places" if copied.num_places > 1 else ""
    lines.append(f"  it stands in: {escaped(str(text.place))}{more}")
    return [*lines, f"  found there:  {_shares(copied.shares)}"]


def _account(summary: MemorizationSummary) -> str:
    typical = "" if summary.num_texts == 1 else f" (median {summary.median_longest:g})"
    return f"longest copy {count(summary.longest, 'token')}{typical}, {_shares(summary.shares)}"


def _shares(shares: dict[int, float | None]) -> str:
    return ", ".join(f"{n}-grams {percent(share, decimals=0)}" for n, share in shares.items())
