"""Pieces of marked-up text, as a reader meets them -> documents of paragraphs."""

import re
from collections import Counter
from dataclasses import dataclass, field

_SPACE = re.compile(r"[ \t\r\n\f]+")
_MANY_LINES = re.compile(r"\n{3,}")
_SOFT_HYPHEN = "\xad"


@dataclass
class _Table:
    """A table that is being read: lines that are complete, and the cells of the row that isn't."""

    lines: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    in_cell: bool = False


class Prose:
    r"""Gathers text into paragraphs, paragraphs into documents.

    Paragraphs stand a blank line apart; the lines of a stanza and the rows of a table each on its
    own line, the cells of a row a tab apart. White space is as a browser shows it, and soft hyphens
    are left out. A document begins at `chapter`, unless what went before it is headings alone:
    those begin the same document.

    Attributes:
        left_out: how much of each kind isn't in the documents.
        heading: above 0 while what comes is a heading, or what may stand between headings.
        keeps_space: above 0 while white space stays as it is.

    >>> prose = Prose(Counter())
    >>> prose.text(" Мороз и\n солнце; "), prose.line(), prose.text("день чудесный!"), prose.block()
    (None, None, None, None)
    >>> prose.finish()
    >>> prose.take()
    ['Мороз и солнце;\nдень чудесный!']
    """

    def __init__(self, left_out: Counter[str]) -> None:
        """Begin the first document."""
        self.left_out = left_out
        self.heading = self.keeps_space = 0
        self._pieces: list[str] = []  # of the paragraph
        self._blocks: list[str] = []  # of the document
        self._has_body = False  # whether they are more than headings
        self._tables: list[_Table] = []
        self._documents: list[str] = []  # complete, and not taken yet

    def text(self, data: str) -> None:
        """More of the paragraph's text."""
        if num_hyphens := data.count(_SOFT_HYPHEN):
            self.left_out["soft hyphens"] += num_hyphens
            data = data.replace(_SOFT_HYPHEN, "")
        if not self.keeps_space:
            data = _SPACE.sub(" ", data)
            if not self._pieces or self._pieces[-1].endswith((" ", "\n")):
                data = data.removeprefix(" ")
        if data:
            self._pieces.append(data)

    def line(self) -> None:
        """The next text begins a line of the same paragraph."""
        if self._pieces:
            if not self.keeps_space:
                self._pieces[-1] = self._pieces[-1].removesuffix(" ")
            self._pieces.append("\n")

    def block(self) -> None:
        """The next text begins a paragraph."""
        text = "".join(self._pieces).strip("\n").rstrip(" \n")
        self._pieces.clear()
        if not self.keeps_space:
            text = _MANY_LINES.sub("\n\n", text)
        if text.strip():
            self._add(text)

    def chapter(self) -> None:
        """The next text begins a document, if there has been more than headings."""
        if self._tables:
            return
        self.block()
        if self._has_body:
            self._end_document()

    def finish(self) -> None:
        """No more text comes."""
        while self._tables:
            self.close_table()
        self.block()
        self._end_document()

    def take(self) -> list[str]:
        """The documents that are complete, each given once."""
        documents, self._documents = self._documents, []
        return documents

    @property
    def is_empty(self) -> bool:
        """Whether there has been no text so far."""
        return not (self._documents or self._blocks or self._pieces)

    def open_table(self) -> None:
        """What comes is rows, until `close_table`."""
        self.block()
        self._tables.append(_Table())

    def close_table(self) -> None:
        """The table is over; one without rows was none."""
        if self._tables:
            self.close_row()
            self._flush(self._tables.pop())

    def open_cell(self) -> None:
        """What comes is a cell of the row, until `close_cell`."""
        self.close_cell()
        if self._tables:
            self._tables[-1].cells.append([])
            self._tables[-1].in_cell = True

    def close_cell(self) -> None:
        """The cell is over."""
        self.block()
        if self._tables:
            self._tables[-1].in_cell = False

    def close_row(self) -> None:
        """The row is over: a line, or paragraphs where a cell has several, as of a layout."""
        self.close_cell()
        if not self._tables:
            return
        table = self._tables[-1]
        cells, table.cells = table.cells, []
        if all(len(cell) <= 1 for cell in cells):
            line = "\t".join(cell[0].replace("\n", " ") if cell else "" for cell in cells).rstrip()
            table.lines += [line] if line else []
            return
        flowing, table.lines = table.lines, []
        outer = self._tables.pop()
        self._flush(_Table(flowing))
        for block in (block for cell in cells for block in cell):
            self._add(block)
        self._tables.append(outer)

    def _flush(self, table: _Table) -> None:
        if table.lines:
            self._add("\n".join(table.lines))

    def _add(self, block: str) -> None:
        for table in reversed(self._tables):
            if table.in_cell:
                table.cells[-1].append(block)
                return
        self._blocks.append(block)
        self._has_body = self._has_body or not self.heading

    def _end_document(self) -> None:
        if self._blocks:
            self._documents.append("\n\n".join(self._blocks))
        self._blocks, self._has_body = [], False
