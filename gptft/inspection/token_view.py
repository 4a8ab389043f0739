"""A measured text -> its tokens as a person sees them: coloured pills, or a line a token."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, RenderResult
from rich.segment import Segment
from rich.style import Style

from gptft.inspection.cost import MeasuredText
from gptft.terminal.cells import chopped
from gptft.terminal.draw import GAP, Drawn, Table, has_colour, plain_lines
from gptft.terminal.text import visible
from gptft.tokenization.tokens import Token, group_by_characters

PARTIAL = "*"  # behind the id of a token that is no text alone
# Black on one of the 256 fixed colours, light ones: readable whatever the terminal's background.
_COLOURS = tuple(f"color(16) on color({light})" for light in (117, 156, 222, 211, 183, 216, 80))
_HEADS = ("id", "byte", "char", "token", "bytes")
_MIN_TOKEN = 24  # cells that a token and its bytes need beside offsets with their ends


def text_view(measured: MeasuredText) -> Drawn:
    """A text as pills, each token on the colour of its id, with the id below.

    Pills stand apart, so that neighbours of one colour are two. Tokens that make up one character
    are added up: `⟨d0⟩+⟨bf⟩=п`. Without colours it is a line a token, with tabs: id, token, bytes.
    """

    def draw(console: Console, width: int) -> RenderResult:
        if has_colour(console):
            return _pill_rows(_pills(measured.tokens, shows_ids=True), width=width)
        return [plain_lines("\t".join(cells) for cells in _plain_rows(measured.tokens))]

    return Drawn(draw)


def byte_view(measured: MeasuredText) -> Drawn:
    """A line a token: id, offsets in bytes and in characters, what it spells, its bytes.

    In columns on a terminal, without the ends of the offsets where it is narrow; off one with tabs,
    the offsets last.
    """
    tokens = measured.tokens

    def draw(console: Console, width: int) -> RenderResult:
        if not console.is_terminal:
            rows = [
                (*cells, *map(str, (t.start, t.end, t.start_character, t.end_character)))
                for cells, t in zip(_plain_rows(tokens), tokens, strict=True)
            ]
            return [Table(rows, "lllllll")]
        spans = [(f"{t.start}–{t.end}", f"{t.start_character}–{t.end_character}") for t in tokens]
        starts = [(str(t.start), str(t.start_character)) for t in tokens]
        tables = [_byte_table(tokens, offsets) for offsets in (spans, starts)] if tokens else []
        room = width - _MIN_TOKEN - 4 * len(GAP)
        return [*(one for one in tables if sum(one.widths(width)[:3]) <= room), *tables[1:]][:1]

    return Drawn(draw)


def shown_groups(tokens: Sequence[Token]) -> Iterator[tuple[list[Token], str]]:
    """Tokens that make up one character together, and that character; "" for a single token."""
    for group in group_by_characters(tokens):
        yield group, visible(b"".join(token.bytes for token in group)) if len(group) > 1 else ""


def bracketed(tokens: Sequence[Token]) -> Iterator[str]:
    """Tokens as shown, by token; those of one character are bracketed, one below the other."""
    for group, character in shown_groups(tokens):
        if not character:
            yield group[0].shown
            continue
        first, *between, last = (token.shown for token in group)
        yield f"┌ {first}"
        yield from (f"│ {label}" for label in between)
        yield f"└ {last} = {character}"


def tokens_in_rows(tokens: Sequence[Token], *, console: Console, width: int) -> Iterator[Segment]:
    """Pills without ids; with bars between them where there are no colours."""
    pills = _pills(tokens, shows_ids=False)
    if not has_colour(console):
        pills = (
            pill._replace(colour="", before="│" if pill.before == " " else pill.before)
            for pill in pills
        )
    return _pill_rows(pills, width=width)


def _plain_rows(tokens: Sequence[Token]) -> Iterator[tuple[str, str, str]]:
    for label, token in zip(bracketed(tokens), tokens, strict=True):
        yield str(token.id), label, token.bytes.hex(" ")


def _byte_table(tokens: Sequence[Token], offsets: Sequence[tuple[str, str]]) -> Table:
    rows = [
        (_id(token), *pair, label, token.bytes.hex(" "))
        for token, pair, label in zip(tokens, offsets, bracketed(tokens), strict=True)
    ]
    return Table(rows, "rrrll", heads=_HEADS)


class _Pill(NamedTuple):
    """A token on its colour, or what stands between tokens.

    Attributes:
        label: what is shown.
        below: the id below it, or "".
        colour: its style, "" for none.
        before: what stands between it and the pill before it in the same row.
        ends_row: it ends with a line break.
    """

    label: str
    below: str
    colour: str
    before: str = " "
    ends_row: bool = False


def _pills(tokens: Sequence[Token], *, shows_ids: bool) -> Iterator[_Pill]:
    for group, character in shown_groups(tokens):
        breaks = group[-1].bytes.endswith(b"\n")
        for number, token in enumerate(group):
            below = _id(token) if shows_ids else ""
            colour = _COLOURS[token.id % len(_COLOURS)]
            before = "+" if number else " "
            yield _Pill(token.shown, below, colour, before, breaks and not character)
        if character:
            yield _Pill(character, "", "", "=", breaks)


def _pill_rows(pills: Iterable[_Pill], *, width: int) -> Iterator[Segment]:
    """Rows of as many pills as fit, each over a row of ids."""
    row: list[tuple[_Pill, int]] = []
    taken = 0
    for pill in _cut(pills, width=width):
        cells = max(cell_len(pill.label), len(pill.below))
        if row and (row[-1][0].ends_row or taken + 1 + cells > width):
            yield from _pill_row(row)
            row, taken = [], 0
        taken += cells + (1 if row or pill.before != " " else 0)
        row.append((pill, cells))
    if row:
        yield from _pill_row(row)


def _cut(pills: Iterable[_Pill], *, width: int) -> Iterator[_Pill]:
    """Pills that are too long for a row, in several; the id stands below the first."""
    for pill in pills:
        if cell_len(pill.label) < width:
            yield pill
            continue
        first, *others = chopped(pill.label, width - 1)
        yield _Pill(first, pill.below, pill.colour, pill.before)
        for number, label in enumerate(others, start=1):
            ends_row = pill.ends_row and number == len(others)
            yield _Pill(label, "", pill.colour, "", ends_row)


def _pill_row(row: Sequence[tuple[_Pill, int]]) -> Iterator[Segment]:
    dim, below = Style(dim=True), ""
    for number, (pill, cells) in enumerate(row):
        before = pill.before if number or pill.before != " " else ""
        if before:
            yield Segment(before, dim)
        label = pill.label + " " * (cells - cell_len(pill.label))
        yield Segment(label, Style.parse(pill.colour) if pill.colour else None)
        below += " " * len(before) + pill.below + " " * (cells - len(pill.below))
    yield Segment.line()
    if below.strip():
        yield Segment(below.rstrip(), dim)
        yield Segment.line()


def _id(token: Token) -> str:
    return f"{token.id}{PARTIAL if token.text is None else ''}"
