"""Facts on one or two models -> a drawing in boxes, and tables, for a terminal."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType, RenderResult
from rich.text import Text

from gptft.inspection import known_words as known
from gptft.inspection import model_words as words
from gptft.inspection.model_facts import ModelFacts
from gptft.inspection.model_words import Box, Row
from gptft.terminal.cells import fit
from gptft.terminal.draw import Drawn, Table, plain_lines, stacked
from gptft.terminal.text import escaped

_WIDEST = 60  # cells of the drawing
_NARROW = 100  # cells of a terminal below which some columns on other models are left out
_NARROWER = 60


def info_view(models: Sequence[ModelFacts]) -> RenderableType:
    """What is known of a model, or of two beside one another."""
    shown = [*(_alone(models[0]) if len(models) == 1 else _together(models))]
    notes = [f"{escaped(facts.model)}: {note}" if len(models) > 1 else note
             for facts in models for note in map(escaped, facts.unknown)]  # fmt: skip
    if notes:
        shown.append(Text("\n".join(f"not known: {note}" for note in notes)))
    return stacked(*shown)


def _alone(facts: ModelFacts) -> Iterator[RenderableType]:
    yield Text(words.summary(facts), "bold")
    yield _drawing(facts)
    if parts := words.part_rows(facts):
        yield Table(parts, "lrr", heads=("part", "parameters", "share"))
    yield Table(words.build_rows(facts), "nl", title="What it is made of")
    if needs := words.needs_rows(facts):
        yield Table(needs, "ll", title="What it takes")
    if special := words.special_rows(facts):
        yield Table(special, "llrl", heads=("token", "text", "id", "tokenizer and config.json"))
    yield _known([facts])


def _together(models: Sequence[ModelFacts]) -> Iterator[RenderableType]:
    heads = ("", *(escaped(facts.model) for facts in models))
    for title, rows in words.comparison(models):
        yield Table(rows, "n" + "l" * len(models), title=title, heads=heads)
    yield _known(models)


def _known(models: Sequence[ModelFacts]) -> Drawn:
    def draw(console: Console, width: int) -> Iterator[RenderableType]:
        rows = known.known_rows(models)
        is_narrow = console.is_terminal and width < _NARROW
        kept, align = [*range(len(known.KNOWN_HEADS))], "lrrrrrrl"
        if is_narrow:
            kept = [0, 2, 3, 5] if width < _NARROWER else [0, 1, 2, 3, 4, 5]
        yield Table(
            [[row[at] for at in kept] for row in rows],
            "".join(align[at] for at in kept),
            title="Beside others",
            heads=[known.KNOWN_HEADS[at] for at in kept],
            styles=["bold"] * len(models),
        )
        if is_narrow:
            yield ""
            yield Table(known.known_data(), "ll", title="What they were trained on")

    return Drawn(draw)


def _drawing(facts: ModelFacts) -> Drawn:
    def draw(_: Console, width: int) -> RenderResult:
        yield plain_lines(draw_boxes(words.boxes(facts), min(width, _WIDEST)))

    return Drawn(draw)


def draw_boxes(boxes: Sequence[Box], width: int) -> list[str]:
    """Boxes under one another with lines between, each of `width` cells."""
    joint = f"{' ' * (width // 2)}│"
    lines: list[str] = []
    for number, box in enumerate(boxes):
        lines += [joint] * bool(number) + _box_lines(box, width)
    return lines


def _box_lines(box: Box, width: int) -> list[str]:
    room = width - 4
    inside = [line for inner in box.inner for line in _box_lines(inner, room)]
    inside += [line for row in box.rows for line in _row_lines(row, room)]
    title = f"─ {fit(box.title, min(cell_len(box.title), width - 5))} "
    top = f"┌{title}{'─' * (width - 2 - cell_len(title))}┐"
    return [top, *(f"│ {fit(line, room)} │" for line in inside), f"└{'─' * (width - 2)}┘"]


def _row_lines(row: Row, room: int) -> list[str]:
    """What is said at the left, folded where it must be, the number at the right of the first."""
    said, number = row
    left = max(room - cell_len(number) - 2, 8) if number else room
    first, *rest = textwrap.wrap(said, left) or [""]
    return [f"{fit(first, left)}  {number}" if number else first, *rest]
