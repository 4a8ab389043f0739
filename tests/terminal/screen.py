"""What a terminal shows of what was written to it, its lines broken anew when its width changes."""

import io
import re

from rich.cells import cell_len

_TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")


class Screen(io.StringIO):
    """A terminal that scrolls for ever; lines that were broken at its edge flow when it resizes.

    Attributes:
        is_cursor_shown: whether it is.
        widest: cells of the longest line that was written, however it was broken.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.is_cursor_shown, self.widest = width, True, 0
        self._rows: list[tuple[str, bool]] = [("", False)]  # and whether the next one continues it
        self._row = self._column = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for match in _TOKEN.finditer(text):
            if match[2]:
                self._control(match[2], match[1])
            elif match[0] == "\r":
                self._column = 0
            elif match[0] == "\n":
                self._down(continued=False)
            else:
                self._put(match[0])
        return len(text)

    def resize(self, width: int) -> None:
        """Break the lines at another width, as tmux and most others do; the cursor stays behind."""
        lines, joined, at = [""], 0, 0
        for number, (text, continues) in enumerate(self._rows):
            if number == self._row:
                at, joined = len(lines) - 1, len(lines[-1]) + self._column
            lines[-1] += text
            if not continues:
                lines.append("")
        self.width, self._rows = width, []
        for number, line in enumerate(lines[:-1] or [""]):
            parts = [line[i : i + width] for i in range(0, len(line), width)] or [""]
            if number == at:
                self._row = len(self._rows) + min(joined // width, len(parts) - 1)
                self._column = joined - (self._row - len(self._rows)) * width
            self._rows += [(part, n < len(parts) - 1) for n, part in enumerate(parts)]

    def lines(self) -> list[str]:
        """All of it, without empty lines at its end."""
        return "\n".join(text.rstrip() for text, _ in self._rows).rstrip("\n").split("\n")

    def _control(self, letter: str, number: str) -> None:
        if letter == "A":
            self._row = max(self._row - int(number or 1), 0)
        elif letter == "K":
            self._rows[self._row] = ("", False)
        elif letter in "hl" and number == "?25":
            self.is_cursor_shown = letter == "h"
        else:
            assert letter == "m", f"not known here: {number}{letter}"

    def _put(self, character: str) -> None:
        if cell_len(self._rows[self._row][0][: self._column]) + cell_len(character) > self.width:
            self._down(continued=True)
            self._column = 0
        text = self._rows[self._row][0].ljust(self._column)
        text = text[: self._column] + character + text[self._column + 1 :]
        self._rows[self._row] = (text, self._rows[self._row][1])
        self._column += 1
        self.widest = max(self.widest, cell_len(text))

    def _down(self, *, continued: bool) -> None:
        self._rows[self._row] = (self._rows[self._row][0], continued)
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._rows):
            self._rows.append(("", False))
