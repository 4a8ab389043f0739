"""A comparison of strategies for a terminal: a table, or a block of lines each.

In: `StrategyResult`s. Out: renderables. Must not import torch or transformers.
"""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptft.decoding.compare.results import Metric, StrategyResult, known_metrics
from gptft.terminal.words import short_value

_LABEL_WIDTH = 24
TABLE_WIDTH = 100  # columns: in a narrower window each strategy is a block of lines


def settings_in_words(row: StrategyResult) -> str:
    """What of a row's settings makes the strategy or changes something, stand-ins left out.

    The length isn't said: all rows tend to share it.
    """
    settings = row.entry.settings
    if settings is None:
        return ""
    hidden = {"max_new_tokens", "num_return_sequences", *row.entry.stand_ins}
    own = {name for name in settings.row.own if settings[name] is not None}
    words = [
        f"{name} {_one_line(short_value(settings[name]))}"
        for name in settings.values
        if name not in hidden and (settings.is_on(name) or name in own)
    ]
    return ", ".join([*words, *([f"seed {row.seed}"] if row.seed is not None else [])])


def stand_ins_in_words(row: StrategyResult) -> str:
    """What a row's strategy needs and got a stand-in for; empty where it got none."""
    said = [f"{name} {_quoted(value)}" for name, value in row.entry.stand_ins.items()]
    return f"stand-in: {', '.join(said)}" if said else ""


def drafts_in_words(row: StrategyResult) -> str:
    """How much drafts helped; empty where nothing was drafted.

    Lookahead's guesses aren't counted, its calls are.
    """
    speed = row.measured.speed if row.measured else None
    if speed is None or (speed.draft_acceptance is None and speed.tokens_per_call <= 1):
        return ""
    said = f"{speed.tokens_per_call:.2f} tokens a call"
    if speed.draft_acceptance is None:
        return said
    return f"{said}, {speed.draft_acceptance:.0%} of drafted tokens kept"


def _quoted(value: Any) -> str:
    """A value with its texts in quotes, so that spaces show."""
    if isinstance(value, list):
        return ", ".join(_quoted(one) for one in value)
    return f'"{_one_line(value)}"' if isinstance(value, str) else str(value)


def comparison_table(rows: Sequence[StrategyResult], *, width: int | None) -> RenderableType:
    """Rows for a terminal: a table, or a block of lines a strategy where it is narrow.

    In the table a text is cut to one line; in blocks it is whole.

    Args:
        rows: see `compare`.
        width: of the window, in columns; None off a terminal, for blocks.
    """
    metrics = known_metrics(rows)
    if width is None or width < TABLE_WIDTH:
        return Text("\n\n").join(_block(row, metrics) for row in rows)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True, max_width=_LABEL_WIDTH)
    for name in ("tokens", *(metric.short for metric in metrics)):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("text", ratio=1)
    for row in rows:
        numbers = [f"{row.measured.num_new_tokens:,}"] if row.measured else ["-"]
        numbers += [metric.shown(row) for metric in metrics]
        table.add_row(Text(_one_line(row.label)), *numbers, _cell(row))
    below = [
        Text(f"{_one_line(row.label)}: {_one_line(row.left_out)}", style="yellow")
        for row in rows
        if row.left_out
    ]
    legend = "; ".join(f"{metric.short}: {metric.meaning}" for metric in metrics)
    return Group(table, *below, Text(f"{legend}.", style="dim"))


def _cell(row: StrategyResult) -> RenderableType:
    """What a table shows of a row's text: a line of it, and below what it was given."""
    if row.measured is None:
        return Text("left out, see below", style="yellow")
    line = " ".join(_one_line(row.measured.continuation).split())
    text = Text(line, no_wrap=True, overflow="ellipsis")
    notes = [note for note in (stand_ins_in_words(row), drafts_in_words(row)) if note]
    return Group(text, Text("; ".join(notes), style="dim", overflow="fold")) if notes else text


def _block(row: StrategyResult, metrics: Sequence[Metric]) -> Text:
    """A row as lines: its name and settings, the whole text, the measures."""
    told = "; ".join(filter(None, [settings_in_words(row), stand_ins_in_words(row)]))
    block = Text.assemble((_one_line(row.label), "bold"), f": {told}" if told else "", "\n")
    written = row.measured
    if written is None:
        return block.append(f"left out: {_one_line(row.left_out or '')}", style="yellow")
    numbers = [
        f"{written.num_new_tokens:,} tokens",
        *(f"{one.title} {one.shown(row)}" for one in metrics if one.of(row) is not None),
        f"stopped by {written.stopped}",
        drafts_in_words(row),
    ]
    text, ends = without_line_ends(written.continuation)
    block.append(_lines(row.prompt), style="dim").append(_lines(text))
    block.append(f"{ends}\n", style="dim")
    return block.append(", ".join(filter(None, numbers)), style="dim")


def without_line_ends(text: str) -> tuple[str, str]:
    r"""A text without the line ends it closes with, and those as one sign.

    >>> without_line_ends("Мороз\n\n\n"), without_line_ends("Мороз")
    (('Мороз', ' ↵ × 3'), ('Мороз', ''))
    """
    bare = text.rstrip("\n")
    number = len(text) - len(bare)
    return bare, " ↵" * bool(number) + f" × {number}" * (number > 1)


def _lines(text: str) -> str:
    """Text in which nothing acts on the terminal but the ends of its lines."""
    return "\n".join(_one_line(line) for line in text.split("\n"))


def _one_line(text: str) -> str:
    r"""Text in one line, in which nothing acts on the terminal or hides.

    >>> print(_one_line("Мороз\nи\x1b[2J"))
    Мороз ↵ и\x1b[2J
    """
    return "".join(
        mark if mark.isprintable() else _SHOWN.get(mark, mark.encode("unicode_escape").decode())
        for mark in text
    )


_SHOWN = {"\n": " ↵ ", "\t": " ", "\xa0": "\xa0"}
