"""A view that changes -> the last lines of a terminal, whatever is printed above it."""

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

from gptft.console import show_stages_in, take_lines

DRAWN_A_SECOND = 4
_ECHO = 2  # cells that a terminal writes ^C into, behind the last line


class LiveLines:
    """A view at the bottom of a terminal, four times a second.

    A terminal that becomes narrower breaks the lines that are there, so that more of its lines are
    to be cleared than were drawn.
    """

    def __init__(
        self,
        view: RenderableType,
        console: Console,
        *,
        leaves: bool,
        told: Callable[[str | None], None] | None = None,
    ) -> None:
        """Draw on `console`, which is a terminal, after `start`.

        Args:
            view: what is to be seen; drawn in a thread of its own where `told` is given.
            console: what else is printed to it stands above.
            leaves: whether the last lines stay there at the end.
            told: is told what `console.stage` names, and None where that is over; without it the
                view is drawn only by `show`.
        """
        self._view, self._console, self._told = view, console, told
        self._drawn: list[int] = []  # cells of each line
        self._width = console.width
        self._live = Live(
            console=console,
            get_renderable=self._lines,
            refresh_per_second=DRAWN_A_SECOND,
            auto_refresh=told is not None,
            transient=not leaves,
            redirect_stdout=sys.stdout.isatty(),  # else it is a file, for results
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Draw for the first time."""
        if self._told is not None:
            show_stages_in(self._told)
        self._live.start(refresh=True)

    def show(self, view: RenderableType) -> None:
        """Draw another view, now."""
        self._view = view
        self._live.refresh()

    def stop(self) -> None:
        """Draw for the last time, and give the terminal back; safe to call twice."""
        try:
            self._live.stop()
        finally:
            take_lines(0)
            if self._told is not None:
                show_stages_in(None)

    def __enter__(self) -> "LiveLines":
        """Start."""
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop."""
        self.stop()

    def _lines(self) -> RenderableType:
        """The lines as they are drawn; before, room is made for them on a narrower terminal."""
        console, width = self._console, self._console.width
        options = console.options.update(width=width)
        rows = console.render_lines(self._view, options, pad=False)
        rows = rows[: max(console.height - 1, 1)]
        room = [width] * (len(rows) - 1) + [max(width - _ECHO, 1)]
        rows = [
            Segment.adjust_line_length(row, cells, pad=False)
            for row, cells in zip(rows, room, strict=False)
        ]
        if width < self._width:
            broken = sum(max(-(-cells // width), 1) - 1 for cells in self._drawn)
            up = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            console.control(Control(ControlType.CARRIAGE_RETURN, *(up * broken)))
        self._width, self._drawn = width, [Segment.get_line_length(row) for row in rows]
        take_lines(len(rows))
        return _Rows(rows)


class _Rows:
    """Lines that are drawn already."""

    def __init__(self, rows: list[list[Segment]]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for row in self._rows:
            yield from row
            yield Segment.line()
