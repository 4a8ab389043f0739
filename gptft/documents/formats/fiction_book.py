"""A FictionBook, also in a zip archive -> the text of its chapters.

The format: http://www.gribuser.ru/xml/fictionbook/2.0 and its schema, FictionBook2.21.xsd.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gptft.documents.formats.format import OpenedFile, book_format
from gptft.documents.prose import Prose
from gptft.documents.xml_events import feed_xml
from gptft.documents.zip_parts import open_zip
from gptft.errors import DataError
from gptft.text.encoding import decode_markup

_SUFFIX = ".fb2"
_PARAGRAPHS = frozenset({
    "p", "subtitle", "text-author", "date", "cite", "poem", "stanza", "epigraph", "annotation",
    "section", "body", "empty-line", "title",
})  # fmt: skip
_CHAPTERS = frozenset({"section", "body"})  # whose titles begin a document; those of poems don't
# Where the link to a note leads, of books whose links don't say that they are.
_TO_NOTE = re.compile(r"#(n|c|fn|note|comment|fbautid)[_-]?\d+", re.I)
_NOTES = frozenset({
    "notes", "note", "comments", "comment", "footnotes", "endnotes", "примечания", "сноски",
})  # fmt: skip


class _FictionBook:
    """Takes a FictionBook's tags and text, and fills `prose` with its chapters."""

    def __init__(self, prose: Prose, name: str) -> None:
        self._prose = prose
        self._name = name
        self._open: list[str] = []  # the elements around what is read
        self._unread = 0  # how many of them, from the innermost, are left out with all in them
        self._in_notes = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._open and tag != "FictionBook":
            raise DataError(
                f"{self._name} is not a FictionBook: its text is in <{tag}>. Name it by what it is."
            )
        above = self._open[-1] if self._open else ""
        self._open.append(tag)
        if tag == "image":
            self._prose.left_out["images"] += 1
        if self._unread:
            self._unread += 1
            if self._in_notes and tag == "section":
                self._prose.left_out["notes"] += 1
        elif self._is_left_out(tag, attributes):
            self._unread = 1
        elif tag == "table":
            self._prose.open_table()
        elif tag in ("td", "th"):
            self._prose.open_cell()
        elif tag == "v":
            self._prose.line()
        elif tag in _PARAGRAPHS:
            self._prose.block()
            if tag == "title" and above in _CHAPTERS:
                self._prose.chapter()
            self._prose.heading += self._is_heading(tag, above)

    def end(self, tag: str) -> None:
        self._open.pop()
        if self._unread:
            self._unread -= 1
            self._in_notes = self._in_notes and self._unread > 0
        elif tag == "table":
            self._prose.close_table()
        elif tag == "tr":
            self._prose.close_row()
        elif tag in ("td", "th"):
            self._prose.close_cell()
        elif tag in _PARAGRAPHS:
            self._prose.block()
            self._prose.heading -= self._is_heading(tag, self._open[-1] if self._open else "")

    def text(self, data: str) -> None:
        if not self._unread:
            self._prose.text(data)

    def _is_left_out(self, tag: str, attributes: Mapping[str, str]) -> bool:
        if tag == "body" and attributes.get("name", "").strip().lower() in _NOTES:
            self._in_notes = True
            return True
        if tag == "a" and (
            attributes.get("type") == "note" or _TO_NOTE.fullmatch(attributes.get("href", ""))
        ):
            self._prose.left_out["note marks"] += 1
            return True
        return tag in ("description", "binary", "stylesheet")

    @staticmethod
    def _is_heading(tag: str, above: str) -> bool:
        """Whether what is in an element may stand between the headings that begin a document."""
        return tag == "epigraph" or (tag == "title" and above in _CHAPTERS)


def _chapters(chunks: Iterable[str], name: str, left_out: Counter[str]) -> Iterator[str]:
    prose = Prose(left_out)
    for _ in feed_xml(chunks, _FictionBook(prose, name), name=name):
        yield from prose.take()
    prose.finish()
    yield from prose.take()


def read_fiction_book(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The chapters of a FictionBook, streamed.

    A chapter begins at the title of a section, at whatever depth; titles and epigraphs with no
    other text between them begin one. Notes and the marks that lead to them, images, and what the
    file says about the book are left out.

    Raises:
        DataError: it isn't well-formed XML, or no FictionBook.
    """
    return _chapters(file.chunks, file.name, left_out)


def read_zipped(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The chapters of every FictionBook in a zip archive, in the order of their names.

    Raises:
        DataError: there is none, or one can't be read.
    """
    with open_zip(file.path, name=file.name, kind="a zip archive") as parts:
        books = sorted(part for part in parts.names if part.lower().endswith(_SUFFIX))
        if not books:
            raise DataError(f"{file.name}: there is no {_SUFFIX} file in it.")
        for book in books:
            where = parts.where(book)
            yield from _chapters(decode_markup(parts.read(book), name=where), where, left_out)


FORMAT = book_format(
    (_SUFFIX,),
    "a chapter: what a section's title begins; notes, images and the description are left out",
    read_fiction_book,
    version=2,  # 1 took it for plain text
)
ZIPPED = book_format((".fb2.zip", ".fbz"), "a chapter, as in `.fb2`", read_zipped, is_binary=True)
