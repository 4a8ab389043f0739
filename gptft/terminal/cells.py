"""A text and a number of cells -> what of the text fits, as rich draws it."""

from rich.cells import cell_len, chop_cells, set_cell_size

from gptft.terminal.text import readable


def cut(text: str, width: int) -> str:
    """At most `width` cells, the end of what is longer left out."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 1 else set_cell_size(text, width)


def fit(text: str, width: int) -> str:
    """Exactly `width` cells: filled up with spaces, or cut."""
    return set_cell_size(cut(text, width), width)


def fit_end(text: str, width: int) -> str:
    """At most `width` cells of the end of a text, in one line, nothing hidden in it."""
    line = readable(text.encode(errors="surrogateescape")).replace("\n", "")
    if cell_len(line) <= width:
        return line
    while line and (excess := cell_len(line) - (width - 1)) > 0:
        line = line[max(excess // 2, 1) :]  # a character takes 2 cells at most
    return f"…{line}"


def chopped(text: str, width: int) -> list[str]:
    """A text in strings of at most `width` cells, and no less than 2."""
    return chop_cells(text, max(width, 2))
