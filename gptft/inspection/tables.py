"""Rows of text -> a renderable that suits its console.

In: titled rows. Out: columns that fit a terminal, and lines with tabs off one. The rows hold
nothing a terminal would obey. Must not import torch or transformers, and rich only to draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Rows:
    """Rows of equal length under a title.

    Attributes:
        title: stands above them; "" for none.
        rows: cells by row.
        right: numbers of the columns that are set to the right, from 0.
        styles: a rich style by row, "" for none; empty where no row has one.
    """

    title: str
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    styles: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Report:
    """Tables under one another, for `console.print`."""

    tables: Sequence[Rows]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment
        from rich.table import Table
        from rich.text import Text

        for number, table in enumerate(self.tables):
            if not console.is_terminal:
                lines = [f"# {table.title}"] if table.title else []
                lines += ["\t".join(row).rstrip("\t") for row in table.rows]
                yield Segment("".join(f"{line}\n" for line in lines))  # a Text would lose the tabs
                continue
            if number:
                yield ""
            if table.title:
                yield Text(table.title, "bold")
            if not table.rows:
                continue
            grid = Table.grid(padding=(0, 2))
            for column in range(len(table.rows[0])):
                right = column in table.right
                grid.add_column(
                    justify="right" if right else "left", no_wrap=right, overflow="fold"
                )
            for at, row in enumerate(table.rows):
                style = table.styles[at] if table.styles else ""
                grid.add_row(*map(Text, row), style=style)
            yield grid
