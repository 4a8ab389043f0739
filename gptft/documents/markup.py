"""Files of text -> a sentence where some are marked up, so that their tags would be learned."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from gptft.documents.formats.registry import format_of
from gptft.documents.sources import TextInput
from gptft.terminal.words import count
from gptft.text.streams import open_bytes

_LOOKED_AT = 200  # files; a corpus is of one kind
_HEAD = 2048  # bytes of each
# The most telling first: a FictionBook is XML as well.
_KINDS = (
    ("FictionBook", re.compile(rb"(?:<\?xml[^>]*>\s*)?<fictionbook\b")),
    ("HTML", re.compile(rb"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<(?:!doctype html|html)\b", re.S)),
    ("XML", re.compile(rb"<\?xml\b")),
)


def markup_notices(texts: Sequence[TextInput]) -> list[str]:
    """What to say of texts that begin as HTML, FictionBook or XML: a sentence a kind."""
    plain = (one.path for one in texts if one.path and format_of(one.path).read_records is None)
    found: dict[str, list[Path]] = {}
    for path in islice(plain, _LOOKED_AT):
        head = _beginning(path)
        kind = next((name for name, pattern in _KINDS if pattern.match(head)), None)
        if kind is not None:
            found.setdefault(kind, []).append(path)
    return [_sentence(kind, paths) for kind, paths in found.items()]


def _beginning(path: Path) -> bytes:
    """The first bytes of a file as ASCII in small letters; empty where it can't be read."""
    try:
        with open_bytes(path) as stream:
            raw = stream.read(_HEAD)
    except (OSError, EOFError, ValueError):
        return b""  # which reading will tell
    return raw.translate(None, b"\0\xef\xbb\xbf\xff\xfe").lstrip().lower()  # UTF-16, and marks


def _sentence(kind: str, paths: Sequence[Path]) -> str:
    first, more = paths[0], len(paths) - 1
    named = f"{first} is" if not more else f"{first} and {count(more, 'more file')} are"
    reader = {"FictionBook": ".fb2", "HTML": ".html"}.get(kind)
    way_out = "convert it to plain text first, such as by the program that it comes from"
    if reader is not None:
        way_out = f"end its name in {reader}"
    return (
        f"{named} {kind}: the tags are text, too, and the model will write them. To train on what "
        f"a reader sees, {way_out}"
    )
