"""A trained or an extended tokenizer -> what it is, what texts cost in it, what a model needs."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gptft.terminal.draw import Table
from gptft.terminal.text import visible
from gptft.terminal.words import count, first_of
from gptft.tokenization.evaluation import Cost
from gptft.tokenization.extension import ExtendedTokenizer
from gptft.tokenization.training import TrainedTokenizer

_MAX_SHOWN = 20  # new tokens; JSON has all


def trained_view(trained: TrainedTokenizer) -> RenderableType:
    """What was trained, and its cost beside the others'."""
    own, special = trained.costs[0], ", ".join(trained.special_tokens)
    measured = (
        f"Measured on {trained.held_out:,} of {trained.passages:,} passages, held out of training "
        f"({own.bytes:,} bytes):"
        if trained.held_out
        else f"Nothing was held out: measured on the text it learned from ({own.bytes:,} bytes), "
        "which flatters it:"
    )
    lines = [
        f"{trained.path}: {trained.kind}, {trained.vocab_size:,} ids (special: {special}).",
        measured,
    ]
    if trained.vocab_size < trained.asked:
        lines[1:1] = [f"The text gives no more ids, of {trained.asked:,} at most."]
    lossy = [] if own.lossless else [Text(_why_lossy(own, trained.kind))]
    return Group(*map(Text, lines), _cost_table(trained.costs), *lossy)


def extended_view(extended: ExtendedTokenizer) -> RenderableType:
    """What was added, what it saves, and what the model needs."""
    shown = first_of([*map(visible, extended.added)], _MAX_SHOWN)
    number = count(len(extended.added), "token")
    said = f"{extended.path}: {number} added to {extended.model}{': ' * bool(shown)}{shown}."
    parts: list[RenderableType] = [Text(said)]
    if extended.learned < extended.asked:
        said = f"Only {extended.learned:,} of {extended.asked:,} words would save anything."
        parts.append(Text(said))
    before, after = extended.before, extended.after
    if before and after:
        where = f"On {count(extended.held_out, 'passage')} held out of learning:"
        parts.append(Text(where if extended.held_out else "On the text they were learned from:"))
        parts.append(_cost_table([before, after]))
        parts.append(Text(f"{after.tokens / max(before.tokens, 1) - 1:+.1%} tokens."))
        if before.lossless and not after.lossless:
            parts.append(Text("Decoding doesn't give the texts back as they were any more."))
    return Group(*parts, Text(_needs(extended)))


def _cost_table(costs: Sequence[Cost]) -> Table:
    rows = [
        (cost.name, f"{cost.vocab_size:,}", f"{cost.tokens:,}", f"{cost.bytes_per_token:.2f}")
        for cost in costs
    ]
    return Table(rows, "lrrr", heads=("", "ids", "tokens", "bytes a token"))


def _why_lossy(cost: Cost, kind: str) -> str:
    lost = f"{cost.checked - cost.returned:,} of {cost.checked:,} passages don't decode to the text"
    why = (
        ": WordPiece forgets white space, and characters it hasn't seen. Use --kind bpe for a "
        "model that generates text."
    )
    return f"{lost} they were{why if kind == 'wordpiece' else '.'}"


def _needs(extended: ExtendedTokenizer) -> str:
    has, needed = extended.embeddings, extended.needed
    if has is None:
        return f"A model needs {needed:,} embeddings for it."
    if has >= needed:
        return f"The model's {has:,} embeddings are enough: {needed:,} needed."
    return (
        f"The model has {has:,} embeddings and needs {needed:,}: "
        f"model.resize_token_embeddings({needed}), then train it."
    )
