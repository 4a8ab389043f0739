"""A page of the tutorial -> its blocks: files to write, commands with what they print, pictures.

A comment above a block says how it is treated:

- `<!-- file: NAME -->`: the text of the block is written to NAME.
- `<!-- lines: 1-4 9 -2- -->`: of what the command prints, these lines are shown, others are "...";
  a number below 0 counts from the end.
- `<!-- drawn -->`: the text is drawn, and another processor may draw another one.
- `<!-- picture: PAGE WIDTHxHEIGHT -->`: the picture below shows a page that a command wrote.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "tutorial"
PAGES = (FOLDER / "ru.md", FOLDER / "en.md")
GAP = "..."
_BLOCK = re.compile(
    r"(?P<notes>(?:^<!-- [^\n]* -->\n)*)^```(?P<language>\w*)\n(?P<body>.*?)^```\n",
    flags=re.DOTALL | re.MULTILINE,
)
_NOTE = re.compile(r"<!-- (\w+)(?:: (.*?))? -->")
_PICTURE = re.compile(
    r"<!-- picture: (?P<page>\S+) (?P<width>\d+)x(?P<height>\d+) -->\n"
    r"!\[(?P<alt>[^\]]+)\]\((?P<name>[^)]+)\)"
)


@dataclass(frozen=True)
class Command:
    """A line for a shell, and what the page says that it prints."""

    line: str
    shown: str
    lines: str = ""
    is_drawn: bool = False


@dataclass(frozen=True)
class File:
    """A text that the reader saves under a name."""

    name: str
    text: str


@dataclass(frozen=True)
class Picture:
    """A page that a command wrote, and the picture of it, `width` by `height` pixels."""

    page: str
    width: int
    height: int
    alt: str
    name: str


def read(path: Path) -> str:
    """The text of a page."""
    return path.read_text(encoding="utf-8")


def block_of(found: re.Match[str]) -> Command | File | None:
    """What a fenced block asks for; None where it is only to be read.

    Raises:
        ValueError: a block to run has no command, or a note is unknown.
    """
    notes = dict(_NOTE.findall(found["notes"]))
    if unknown := {*notes} - {"file", "lines", "drawn"}:
        raise ValueError(f"unknown notes: {unknown}")
    if "file" in notes:
        return File(notes["file"], found["body"])
    if found["language"] != "console":
        return None
    line, _, shown = found["body"].partition("\n")
    if not line.startswith("$ "):
        raise ValueError(f"no command: {line}")
    return Command(line[2:], shown, notes.get("lines", ""), "drawn" in notes)


def parts(text: str) -> Iterator[str | Command | File]:
    """A page in its order: prose, with what is only to be read, and blocks that do something."""
    end = 0
    for found in _BLOCK.finditer(text):
        block = block_of(found)
        if block is not None:
            yield text[end : found.start()]
            yield block
            end = found.end()
    yield text[end:]


def blocks(text: str) -> list[Command | File]:
    """The blocks of a page that do something."""
    return [part for part in parts(text) if not isinstance(part, str)]


def pictures(text: str) -> list[Picture]:
    """The pictures of a page."""
    return [
        Picture(found["page"], int(found["width"]), int(found["height"]), found["alt"],
                found["name"])
        for found in _PICTURE.finditer(text)
    ]  # fmt: skip


def shorten(printed: str, lines: str) -> str:
    """The lines of what was printed that a page shows, and "..." for those between.

    >>> shorten("a\\nb\\nc\\nd\\n", "1 -1")
    'a\\n...\\nd\\n'
    """
    every = printed.splitlines()
    if not lines:
        return printed
    kept = sorted({at for span in lines.split() for at in _places(span, len(every))})
    shown, before = [], -1
    for at in kept:
        if at > before + 1:
            shown.append(GAP)
        shown.append(every[at])
        before = at
    if before < len(every) - 1:
        shown.append(GAP)
    return "".join(f"{line}\n" for line in shown)


def _places(span: str, length: int) -> range:
    found = re.fullmatch(r"(-?\d+)(?:(-)(-?\d+)?)?", span)
    if found is None:
        raise ValueError(f"no lines: {span}")
    first = _index(int(found[1]), length)
    last = _index(int(found[3]), length) if found[3] else length - 1 if found[2] else first
    if not 0 <= first <= last < length:
        raise ValueError(f"lines {span} of {length}")
    return range(first, last + 1)


def _index(number: int, length: int) -> int:
    return number - 1 if number > 0 else length + number


def rewrite(text: str, run: Callable[[Command | File], str]) -> str:
    """A page with what its commands print now."""

    def renewed(found: re.Match[str]) -> str:
        block = block_of(found)
        if block is None:
            return found[0]
        printed = run(block)
        if isinstance(block, File):
            return found[0]
        body = f"$ {block.line}\n{shorten(printed, block.lines)}"
        return f"{found['notes']}```console\n{body}```\n"

    return _BLOCK.sub(renewed, text)
