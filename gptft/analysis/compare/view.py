"""A comparison of strategies -> what a person sees of it: a table, or lines for each strategy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from gptft.analysis.compare.results import Metric, StrategyResult, equal_earlier, known_metrics
from gptft.terminal.cells import cut
from gptft.terminal.draw import Cell, Drawn, Table
from gptft.terminal.text import escaped
from gptft.terminal.words import count, percent, short_value

_LABEL_WIDTH = 24
_TABLE_WIDTH = 100  # columns: in a narrower window each strategy has lines of its own
_MARKS = {"\n": " ↵ ", "\t": " ", "\xa0": "\xa0"}


def settings_in_words(row: StrategyResult) -> str:
    """A row's settings that make the strategy or change something, without stand-ins.

    Without max_new_tokens: all rows tend to share it.
    """
    settings = row.entry.settings
    if settings is None:
        return ""
    hidden = {"max_new_tokens", "num_return_sequences", *row.entry.stand_ins}
    own = {name for name in settings.row.own if settings[name] is not None}
    words = [
        f"{name} {escaped(short_value(settings[name]), _MARKS)}"
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
    return f"{said}, {percent(speed.draft_acceptance, decimals=0)} of drafted tokens kept"


def same_in_words(rows: Sequence[StrategyResult], same: Mapping[int, int], i: int) -> str:
    """That row `i` has the text of an earlier one; empty where it has a text of its own."""
    return f"the same text as {escaped(rows[same[i]].label, _MARKS)}" if i in same else ""


def _quoted(value: Any) -> str:
    """A value with its texts in quotes, so that spaces show."""
    if isinstance(value, list):
        return ", ".join(_quoted(one) for one in value)
    return f'"{escaped(value, _MARKS)}"' if isinstance(value, str) else str(value)


def comparison_table(rows: Sequence[StrategyResult]) -> Drawn:
    """A table, or lines for each strategy where the terminal is narrow and off one.

    In the table a text is cut to one line; elsewhere it is complete.
    """
    metrics = known_metrics(rows)

    def draw(console: Console, width: int) -> Iterable[RenderableType | Segment]:
        if console.is_terminal and width >= _TABLE_WIDTH:
            return _table_lines(rows, metrics, console=console, width=width)
        same = equal_earlier(rows)
        blocks = (_block(row, metrics, same_in_words(rows, same, i)) for i, row in enumerate(rows))
        return [Text("\n\n").join(blocks)]

    return Drawn(draw)


def _table_lines(
    rows: Sequence[StrategyResult], metrics: Sequence[Metric], *, console: Console, width: int
) -> Iterable[RenderableType | Segment]:
    """A line a strategy, and below it what it was given; then why some are left out, a legend."""
    cells: list[list[Cell]] = []
    for row in rows:
        label: Cell = cut(escaped(row.label, _MARKS), _LABEL_WIDTH)
        numbers: list[Cell] = [metric.shown(row) for metric in metrics]
        text: Cell = Text("left out, see below", "yellow")
        num_new_tokens = "-"
        if row.measured is not None:
            text = " ".join(escaped(row.measured.continuation, _MARKS).split())
            num_new_tokens = f"{row.measured.num_new_tokens:,}"
        cells.append([label, num_new_tokens, *numbers, text])
    heads = ("strategy", "tokens", *(metric.short for metric in metrics), "text")
    table = Table(cells, f"n{'r' * (len(heads) - 2)}c", heads=heads)
    same = equal_earlier(rows)
    told = [
        ("; ".join(filter(None, (stand_ins_in_words(row), drafts_in_words(row)))),
         same_in_words(rows, same, i))
        for i, row in enumerate(rows)
    ]  # fmt: skip
    for line, notes in zip(table.lines(console, width), [(), *told], strict=True):
        yield from (*line, Segment.line())
        yield from (Table([("", Text(note, "dim"))], "nl") for note in notes if note)
    yield ""
    for row in rows:
        if row.left_out:
            yield Text(f"{escaped(row.label, _MARKS)}: {escaped(row.left_out, _MARKS)}", "yellow")
    legend = "; ".join(f"{metric.short}: {metric.meaning}" for metric in metrics)
    yield Text(f"{legend}.", "dim")


def _block(row: StrategyResult, metrics: Sequence[Metric], same: str) -> Text:
    """A row as lines: its name and settings, the complete text, the measures."""
    said = "; ".join(filter(None, [settings_in_words(row), stand_ins_in_words(row)]))
    name = escaped(row.label, _MARKS)
    block = Text.assemble((name, "bold"), f": {said}" if said else "", "\n")
    measured = row.measured
    if measured is None:
        return block.append(f"left out: {escaped(row.left_out or '', _MARKS)}", "yellow")
    numbers = [
        count(measured.num_new_tokens, "token"),
        *(f"{one.title} {one.shown(row)}" for one in metrics if one.of(row) is not None),
        f"stopped by {measured.stopped}",
        drafts_in_words(row),
        same,
    ]
    text, ends = without_line_ends(measured.continuation)
    kept = {**_MARKS, "\n": "\n"}
    block.append(escaped(row.prompt, kept), "dim").append(escaped(text, kept))
    block.append(f"{ends}\n", "dim")
    return block.append(", ".join(filter(None, numbers)), "dim")


def without_line_ends(text: str) -> tuple[str, str]:
    r"""A text without the line ends it closes with, and those as one sign.

    >>> without_line_ends("Мороз\n\n\n"), without_line_ends("Мороз")
    (('Мороз', ' ↵ × 3'), ('Мороз', ''))
    """
    bare = text.rstrip("\n")
    number = len(text) - len(bare)
    return bare, " ↵" * bool(number) + f" × {number}" * (number > 1)
