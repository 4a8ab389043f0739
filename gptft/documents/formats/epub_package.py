"""The parts of an EPUB -> which of them are read, in which order, and where chapters begin."""

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from gptft.documents.xml_events import feed_xml
from gptft.documents.zip_parts import ZipParts
from gptft.errors import DataError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
# What a guide (EPUB 2) or landmarks (EPUB 3) say of a part that isn't the book's own text.
_NOT_TEXT = {
    "cover": "covers", "toc": "contents", "notes": "notes", "footnotes": "notes",
    "endnotes": "notes", "rearnotes": "notes", "landmarks": "contents",
}  # fmt: skip
_FEWEST_CHAPTERS = 2  # a table of contents with fewer says nothing


@dataclass(frozen=True)
class Package:
    """What an EPUB says of itself.

    Attributes:
        spine: the parts that are read, in their order.
        chapter_starts: by part, the ids of the elements that chapters begin at; "" for its
            beginning. Empty where there is no table of contents to go by.
        left_out: how many parts of each kind aren't read.
    """

    spine: tuple[str, ...]
    chapter_starts: Mapping[str, frozenset[str]]
    left_out: Counter[str]

    def refuse_protected(self, parts: ZipParts) -> None:
        """Refuse a book whose text is encrypted; fonts may be.

        Raises:
            DataError: it is.
        """
        if _ENCRYPTION not in parts.names:
            return
        found = elements(parts, _ENCRYPTION)
        encrypted = {resolved("", a.get("URI", "")) for tag, a in found if tag == "CipherReference"}
        if encrypted.intersection(self.spine):
            raise DataError(
                f"{parts.name} is protected (DRM): its text is encrypted. Get it without, or leave "
                "it out with data.exclude."
            )


class _Elements:
    """Keeps the elements of a document, each with the elements around it."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Mapping[str, str]]] = []
        self.around: list[tuple[str, ...]] = []  # epub:type of the nav elements around each
        self._open: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._open.append(attributes.get("type", "") if tag == "nav" else "")
        self.found.append((tag, attributes))
        self.around.append(tuple(kind for kind in self._open if kind))

    def end(self, tag: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        """It isn't needed."""


def read_package(parts: ZipParts) -> Package:
    """Read what an EPUB says of itself.

    Raises:
        DataError: a part of it is missing or isn't well-formed XML, or it names no text.
    """
    if _CONTAINER not in parts.names:
        raise DataError(f"{parts.name} is not an EPUB: there is no {_CONTAINER} in it.")
    roots = [a.get("full-path", "") for tag, a in elements(parts, _CONTAINER) if tag == "rootfile"]
    if not roots:
        raise DataError(f"{parts.name} is not an EPUB: its {_CONTAINER} names no book.")
    package = elements(parts, roots[0])
    base = posixpath.dirname(roots[0])
    items = {a["id"]: a for tag, a in package if tag == "item" and "id" in a}
    at = {name: resolved(base, item.get("href", "")) for name, item in items.items()}
    contents = _contents(parts, package, items, at)
    guide = [(a.get("type", ""), resolved(base, a.get("href", "")))
             for tag, a in package if tag == "reference"]  # fmt: skip
    not_text = {part: _NOT_TEXT[kind] for kind, part in (*guide, *contents.landmarks)
                if kind in _NOT_TEXT}  # fmt: skip
    not_text |= {at[name]: "contents" for name, item in items.items()
                 if "nav" in item.get("properties", "").split()}  # fmt: skip
    spine, left_out = list[str](), Counter[str]()
    for tag, attributes in package:
        if tag != "itemref" or (item := items.get(attributes.get("idref", ""))) is None:
            continue
        part = at[item["id"]]
        if part in not_text:
            left_out[not_text[part]] += 1
        elif attributes.get("linear") == "no":
            left_out["parts outside the reading order"] += 1
        elif item.get("media-type", "") not in _PAGES:
            left_out["images"] += 1
        else:
            spine.append(part)
    if not spine:
        raise DataError(f"{parts.name}: the book names no text to read.")
    starts = {part: frozenset(ids) for part, ids in contents.starts.items() if part in {*spine}}
    is_telling = sum(map(len, starts.values())) >= _FEWEST_CHAPTERS
    return Package(tuple(spine), starts if is_telling else {}, left_out)


@dataclass(frozen=True)
class _Contents:
    """A table of contents: by part the ids that it names, and landmarks as (kind, part)."""

    starts: Mapping[str, set[str]]
    landmarks: list[tuple[str, str]]


def _contents(
    parts: ZipParts,
    package: list[tuple[str, Mapping[str, str]]],
    items: Mapping[str, Mapping[str, str]],
    at: Mapping[str, str],
) -> _Contents:
    """The table of contents: a page of EPUB 3, or else the .ncx file of EPUB 2."""
    starts: dict[str, set[str]] = {}
    landmarks: list[tuple[str, str]] = []
    pages = [at[name] for name, item in items.items()
             if "nav" in item.get("properties", "").split()]  # fmt: skip
    for page in pages:
        seen = _parsed(parts, page)
        for (tag, attributes), around in zip(seen.found, seen.around, strict=True):
            if tag == "a" and "toc" in around:
                _add_start(starts, posixpath.dirname(page), attributes.get("href", ""))
            elif tag == "a" and "landmarks" in around:
                part = resolved(posixpath.dirname(page), attributes.get("href", ""))
                landmarks.append((attributes.get("type", ""), part))
    if not starts:
        named = next((a["toc"] for tag, a in package if tag == "spine" and "toc" in a), "")
        if at.get(named) in parts.names:
            for tag, attributes in elements(parts, at[named]):
                if tag == "content":
                    base = posixpath.dirname(at[named])
                    _add_start(starts, base, attributes.get("src", ""))
    return _Contents(starts, landmarks)


def _add_start(starts: dict[str, set[str]], base: str, href: str) -> None:
    path, _, fragment = href.partition("#")
    starts.setdefault(resolved(base, path), set()).add(unquote(fragment))


def elements(parts: ZipParts, part: str) -> list[tuple[str, Mapping[str, str]]]:
    """All elements of an XML part, in order: their tags and attributes by local names."""
    return _parsed(parts, part).found


def _parsed(parts: ZipParts, part: str) -> _Elements:
    handler = _Elements()
    for _ in feed_xml([parts.read(part)], handler, name=parts.where(part)):
        pass
    return handler


def resolved(base: str, href: str) -> str:
    """The name of the part that a reference leads to.

    >>> resolved("OEBPS", "text/ch%201.xhtml#a"), resolved("OEBPS/text", "../a.xhtml")
    ('OEBPS/text/ch 1.xhtml', 'OEBPS/a.xhtml')
    """
    return posixpath.normpath(posixpath.join(base, unquote(href.partition("#")[0]))).lstrip("/")
