"""The table of strategies for a terminal.

In: rows of the table. Out: renderables; the settings' types and ranges come from their own table.
Must not import torch or transformers.
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptft.config.generation_fields import PARAMETERS
from gptft.decoding.strategies import SHARED, STRATEGIES, Strategy
from gptft.terminal.words import short_value


def strategy_list() -> RenderableType:
    """Every strategy and what it does, a line or two each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(ratio=1)
    for row in STRATEGIES.values():
        table.add_row(row.name, row.description)
    hint = "gptft strategies NAME shows one with all its settings."
    return Group(table, Text(), Text(hint, style="dim"))


def strategy_details(row: Strategy) -> RenderableType:
    """One strategy with its settings, where it comes from, and what it doesn't go with."""
    lines: list[RenderableType] = [
        Text(row.name, style="bold"),
        Text(row.description),
        Text(f"Source: {row.source}", style="dim"),
    ]
    if row.needs:
        lines.append(Text(f"Needs {' or '.join(row.needs)}."))
    if row.conflicts:
        lines.append(Text(f"Doesn't go with {row.conflicts}."))
    if row.single:
        lines.append(Text(f"One prompt at a time: {row.single}."))
    lines += [Text(), _settings(row, [name for name in row.takes if name in row.own]), Text()]
    others = [name for name in row.takes if name not in row.own and name in SHARED]
    lines.append(Text(f"And what others take, too: {', '.join(others)}."))
    return Group(*lines)


def _settings(row: Strategy, names: list[str]) -> RenderableType:
    names = [*names, *(name for name in ("max_new_tokens",) if name not in names)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("setting", "default", "values", ""):
        table.add_column(title, header_style="dim", no_wrap=title == "setting")
    for name in names:
        parameter = PARAMETERS[name]
        default = row.values[name]
        unset = default is None or default in ([], {})
        values = ", ".join(word for word in (parameter.kind.short, parameter.range) if word)
        table.add_row(name, "-" if unset else short_value(default), values, parameter.description)
    return table
