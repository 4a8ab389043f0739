"""Text that may hold anything -> text that a terminal shows and doesn't obey, cut to its width."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

_BROKEN = re.compile("[\udc80-\udcff]+")  # what `surrogateescape` makes of bytes it can't decode
_VISIBLE_SPACE = {" ": "·", "\n": "↵", "\t": "→"}
_JOINERS = "\u200c\u200d"  # emoji and Persian are spelled with them; they do no harm


@lru_cache(maxsize=2**16)  # a text repeats few tokens many times
def visible(text: bytes | str) -> str:
    r"""Show what a token or a text holds, with nothing hidden.

    A space is ·, a newline ↵, a tab →. What isn't a complete character is its bytes: ⟨d0⟩. A
    character without a shape of its own (a control character, a joiner, a no-break space) is its
    code point: ⟨U+200D⟩. A combining mark that comes first stands on ◌.

    >>> visible(b" \xd0\xb4\xd0"), visible("a\x1b")
    ('·д⟨d0⟩', 'a⟨U+001B⟩')
    """
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    shown = "".join(map(_visible_run, _runs(text)))
    return f"◌{shown}" if shown and unicodedata.category(shown[0]).startswith("M") else shown


def readable(text: bytes) -> str:
    r"""As `visible`, but spaces and line breaks are what they are, the latter marked as well.

    >>> readable("а б\nв".encode())
    'а б↵\nв'
    """
    lines = (" ".join(map(visible, line.split(b" "))) for line in text.split(b"\n"))
    return "↵\n".join(lines)


def harmless(text: bytes, *, keeps: Callable[[str], bool] | None = None) -> str:
    r"""Text as it is, but for bytes and characters a terminal would obey or hide: see `visible`.

    Args:
        text: UTF-8, perhaps cut inside a character.
        keeps: says of a character that it may stay; by default what is printable, white space, and
            the joiners that emoji and Persian need.

    >>> harmless("а\tб\x1b[2J".encode() + b"\xd0")
    'а\tб⟨U+001B⟩[2J⟨d0⟩'
    """
    keeps = keeps or _is_harmless
    decoded = text.decode(errors="surrogateescape")
    return "".join(
        run if run in "\n\t" or (not _BROKEN.match(run) and keeps(run)) else _visible_run(run)
        for run in _runs(decoded)
    )


def escaped(text: str | Path, marks: Mapping[str, str] | None = None) -> str:
    r"""A name or a message on one line, in which nothing acts on the terminal or hides.

    Args:
        text: what may hold anything; a path may hold bytes that are no characters.
        marks: what to show in place of certain characters, such as line breaks.

    >>> print(escaped("мой\x1b[2J \u202e"), escaped("а\nб", {"\n": " ↵ "}))
    мой\x1b[2J \u202e а ↵ б
    """
    marks = marks or {}
    return "".join(
        marks.get(mark, mark if mark.isprintable() else ascii(mark)[1:-1])  # [1:-1]: its quotes
        for mark in str(text)
    )


def shown_path(path: str | Path) -> str:
    r"""A path as text that any terminal and any JSON can hold.

    >>> shown_path("poem\udcff.txt")
    'poem\\xff.txt'
    """
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def quoted(text: str, *, at_most: int, keep: Literal["start", "ends"] = "start") -> str:
    r"""A text in quotes on one line, the rest or the middle of a long one left out.

    Args:
        text: what to quote.
        at_most: characters of it to keep.
        keep: its start, or both its ends.

    >>> quoted("Мороз\nи солнце", at_most=7), quoted("abcdefghi", at_most=5, keep="ends")
    ('«Мороз↵и…»', '«ab…hi»')
    """
    if len(text) > at_most:
        half = at_most // 2
        text = f"{text[:half]}…{text[-half:]}" if keep == "ends" else f"{text[:at_most]}…"
    return f"«{escaped(text, {chr(10): '↵'})}»"


def _runs(text: str) -> Iterator[str]:
    """The characters of `text`, undecoded bytes that follow each other kept together."""
    end = 0
    for match in _BROKEN.finditer(text):
        yield from text[end : match.start()]
        yield match.group()
        end = match.end()
    yield from text[end:]


def _visible_run(run: str) -> str:
    if run in _VISIBLE_SPACE:
        return _VISIBLE_SPACE[run]
    if run.isprintable():
        return run
    if _BROKEN.fullmatch(run):
        return f"⟨{run.encode(errors='surrogateescape').hex(' ')}⟩"
    return f"⟨U+{ord(run):04X}⟩"


def _is_harmless(character: str) -> bool:
    return (
        character.isprintable() or unicodedata.category(character) == "Zs" or character in _JOINERS
    )
