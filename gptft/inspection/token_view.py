"""Measured texts -> what a person sees of them.

In: pieces and numbers. Out: rich renderables that suit their console: pieces as coloured pills on a
terminal, columns of bytes, lines with tabs off one. What a token spells never reaches a terminal
raw. Must not import torch or transformers, and rich only to draw.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from gptft.inspection.cost import MeasuredText
from gptft.terminal.text import hexadecimal, visible
from gptft.tokenization.tokens import Token, group_by_characters

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.segment import Segment

PARTIAL = "*"  # behind the id of a token that is no text alone
# Black on one of the 256 fixed colours, light ones: readable whatever the terminal's background.
_COLOURS = (117, 156, 222, 211, 183, 216, 80)
GAP = "  "
_NARROWEST = 12  # cells; a terminal narrower still is drawn as if it were so wide
_HEADS = ("id", "byte", "char")
_MIN_PIECE = 24  # cells that piece and bytes need beside offsets with their ends


@dataclass(frozen=True)
class Drawn:
    """A rich renderable that suits its console.

    Attributes:
        draw: a console and its width in cells -> what is printed there.
    """

    draw: Callable[["Console", int], Iterable["Segment"]]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        yield from self.draw(console, max(options.max_width, _NARROWEST))


def text_view(measured: MeasuredText) -> Drawn:
    """A text as pills, each piece on the colour of its id, with the id below.

    Pills stand apart, so that neighbours of one colour are two. Tokens that make up one character
    are added up: `⟨d0⟩+⟨bf⟩=п`. Without colours it is a line a piece, with tabs: id, piece, bytes.
    """
    pieces = measured.tokens

    def draw(console: "Console", width: int) -> Iterable["Segment"]:
        if console.is_terminal and _has_colour(console):
            return _pill_rows(_pills(pieces, shows_ids=True), width=width)
        return plain(_plain_lines(pieces))

    return Drawn(draw)


def byte_view(measured: MeasuredText) -> Drawn:
    """A line a token: id, offsets in bytes and in characters, what it spells, its bytes.

    In columns on a terminal; off one with tabs, the offsets last.
    """
    pieces = measured.tokens

    def draw(console: "Console", width: int) -> Iterable["Segment"]:
        if console.is_terminal:
            return _columns(pieces, width=width)
        return plain(_plain_byte_lines(pieces))

    return Drawn(draw)


def shown_tokens(pieces: Sequence[Token]) -> Iterator[tuple[list[tuple[str, Token]], str]]:
    """Pieces as shown, those of one character together, and that character.

    Yields:
        what to show and the piece, for one or more of them; the characters that several make up, or
        "" for a single one.
    """
    for group in group_by_characters(pieces):
        whole = visible(b"".join(piece.bytes for piece in group)) if len(group) > 1 else ""
        yield [(shown_token(piece), piece) for piece in group], whole


def tokens_in_rows(
    pieces: Sequence[Token], *, console: "Console", width: int
) -> Iterator["Segment"]:
    """Pills without ids; with bars between them where there are no colours."""
    pills = _pills(pieces, shows_ids=False)
    if not _has_colour(console):
        pills = (
            pill._replace(colour=None, before="│" if pill.before == " " else pill.before)
            for pill in pills
        )
    return _pill_rows(pills, width=width)


def shown_token(piece: Token) -> str:
    """What a piece spells, or its vocabulary entry where it spells nothing."""
    return visible(piece.bytes or piece.token.encode())


def plain(lines: Iterable[str]) -> list["Segment"]:
    """Lines as they are, tabs among them, which a `Text` would lose."""
    from rich.segment import Segment

    return [Segment("".join(f"{line}\n" for line in lines))]


def chopped(text: str, width: int) -> list[str]:
    """A text in parts of at most `width` cells, and no less than 2."""
    from rich.cells import chop_cells

    return chop_cells(text, max(width, 2))


def _has_colour(console: "Console") -> bool:
    return not (console.is_dumb_terminal or console.no_color)


def _plain_lines(pieces: Sequence[Token]) -> Iterator[str]:
    for shown, piece in _bracketed(pieces):
        yield f"{piece.id}\t{shown}\t{hexadecimal(piece.bytes)}"


def _plain_byte_lines(pieces: Sequence[Token]) -> Iterator[str]:
    for line, piece in zip(_plain_lines(pieces), pieces, strict=True):
        yield f"{line}\t{piece.start}\t{piece.end}\t{piece.start_character}\t{piece.end_character}"


def _bracketed(pieces: Sequence[Token]) -> Iterator[tuple[str, Token]]:
    """Pieces as shown; those of one character are bracketed, one below the other."""
    for group, whole in shown_tokens(pieces):
        last = len(group) - 1
        for number, (label, piece) in enumerate(group):
            if last:
                mark = "┌" if number == 0 else "└" if number == last else "│"
                label = f"{mark} {label}" + (f" = {whole}" if number == last else "")
            yield label, piece


class _Pill(NamedTuple):
    """A piece on its colour, or what stands between pieces.

    Attributes:
        label: what is shown.
        below: the id below it, or "".
        colour: one of the 256, or None.
        before: what stands between it and the pill before it in the same row.
        ends_row: it ends with a line break.
    """

    label: str
    below: str
    colour: int | None
    before: str = " "
    ends_row: bool = False


def _pills(pieces: Sequence[Token], *, shows_ids: bool) -> Iterator[_Pill]:
    for group, whole in shown_tokens(pieces):
        breaks = group[-1][1].bytes.endswith(b"\n")
        for number, (label, piece) in enumerate(group):
            below = _id(piece) if shows_ids else ""
            colour = _COLOURS[piece.id % len(_COLOURS)]
            yield _Pill(label, below, colour, "+" if number else " ", breaks and not whole)
        if whole:
            yield _Pill(whole, "", None, "=", breaks)


def _pill_rows(pills: Iterable[_Pill], *, width: int) -> Iterator["Segment"]:
    """Rows of as many pills as fit, each over a row of ids."""
    from rich.cells import cell_len

    row: list[tuple[_Pill, int]] = []
    taken = 0
    for pill in _cut(pills, width=width):
        cells = max(cell_len(pill.label), len(pill.below))
        if row and taken + 1 + cells > width:
            yield from _pill_row(row)
            row, taken = [], 0
        taken += cells + (1 if row or pill.before != " " else 0)
        row.append((pill, cells))
        if pill.ends_row:
            yield from _pill_row(row)
            row, taken = [], 0
    if row:
        yield from _pill_row(row)


def _cut(pills: Iterable[_Pill], *, width: int) -> Iterator[_Pill]:
    """Pills that are too long for a row, in parts; the id stands below the first."""
    from rich.cells import cell_len

    for pill in pills:
        if cell_len(pill.label) < width:
            yield pill
            continue
        first, *others = chopped(pill.label, width - 1)
        yield _Pill(first, pill.below, pill.colour, pill.before)
        for number, part in enumerate(others, start=1):
            ends_row = pill.ends_row and number == len(others)
            yield _Pill(part, "", pill.colour, "", ends_row)


def _pill_row(row: Sequence[tuple[_Pill, int]]) -> Iterator["Segment"]:
    from rich.cells import cell_len
    from rich.color import Color
    from rich.segment import Segment
    from rich.style import Style

    black, dim = Color.from_ansi(16), Style(dim=True)
    below = ""
    for number, (pill, cells) in enumerate(row):
        before = pill.before if number or pill.before != " " else ""
        style = None
        if pill.colour is not None:
            style = Style(color=black, bgcolor=Color.from_ansi(pill.colour))
        if before:
            yield Segment(before, dim)
        yield Segment(pill.label + " " * (cells - cell_len(pill.label)), style)
        below += " " * len(before) + pill.below + " " * (cells - len(pill.below))
    yield Segment.line()
    if below.strip():
        yield Segment(below.rstrip(), dim)
        yield Segment.line()


def _columns(pieces: Sequence[Token], *, width: int) -> Iterator["Segment"]:
    """A line a token; what is too long goes on below, in its column."""
    from rich.cells import cell_len

    if not pieces:
        return
    labels = [label for label, _ in _bracketed(pieces)]
    numbers, widths = _numbers(pieces, width=width)
    room = max(width - sum(widths) - len(GAP) * (len(widths) + 1), 8)
    piece_width = max(min(max(map(cell_len, labels)), room // 2), len("piece"))
    bytes_width = max(room - piece_width, 2)
    widths = [*widths, piece_width]
    yield from _line((*_HEADS, "piece", "bytes"), widths, is_head=True)
    per_line = max((bytes_width + 1) // 3 * 3, 3)
    for label, piece, cells in zip(labels, pieces, numbers, strict=True):
        raw = hexadecimal(piece.bytes)
        raws = [raw[at : at + per_line].rstrip() for at in range(0, len(raw), per_line)]
        parts = zip_longest(chopped(label, piece_width), raws, fillvalue="")
        for number, (text, pairs) in enumerate(parts):
            left = ("",) * len(cells) if number else cells
            yield from _line((*left, text, pairs), widths, is_head=False)


def _numbers(
    pieces: Sequence[Token], *, width: int
) -> tuple[list[tuple[str, str, str]], list[int]]:
    """Id and offsets by token, and how wide they are; without their ends where it is narrow."""
    spans = [
        (f"{piece.start}–{piece.end}", f"{piece.start_character}–{piece.end_character}")
        for piece in pieces
    ]
    starts = [(str(piece.start), str(piece.start_character)) for piece in pieces]
    for offsets in (spans, starts):
        rows = [(_id(piece), *pair) for piece, pair in zip(pieces, offsets, strict=True)]
        widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
        if width - sum(widths) - len(GAP) * (len(widths) + 1) >= _MIN_PIECE:
            break
    return rows, widths


def _line(cells: Sequence[str], widths: Sequence[int], *, is_head: bool) -> Iterator["Segment"]:
    """Cells in columns; all but the last two are right-aligned numbers."""
    from rich.cells import set_cell_size
    from rich.segment import Segment
    from rich.style import Style

    dim = Style(dim=True)
    *numbers, label, raw = cells
    left = GAP.join(f"{number:>{w}}" for number, w in zip(numbers, widths, strict=False))
    yield Segment(f"{left}{GAP}", dim)
    yield Segment(set_cell_size(label, widths[-1]), dim if is_head else None)
    yield Segment(f"{GAP}{raw}", dim)
    yield Segment.line()


def _id(piece: Token) -> str:
    return f"{piece.id}{PARTIAL if piece.text is None else ''}"
