"""An EPUB -> the text of its chapters.

The format: https://www.w3.org/TR/epub-33 and, for EPUB 2, https://idpf.org/epub/20/spec/OPF_2.0.html.
"""

from collections import Counter
from collections.abc import Iterator

from gptft.documents.formats.epub_package import Package, read_package
from gptft.documents.formats.format import OpenedFile, book_format
from gptft.documents.prose import Prose
from gptft.documents.web_text import WebText
from gptft.documents.xml_events import feed_xml
from gptft.documents.zip_parts import ZipParts, open_zip

_OF_BOOKS = frozenset({"aside", "footer"})  # unlike a page's, they are the book's


def read_epub(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The chapters of a book in the order in which they are read.

    A chapter begins where the table of contents says, and at a file that begins with a heading;
    without a table of contents, at each file. Headings with no other text between them begin one.
    Covers, tables of contents, images and, where they are marked as such, notes are left out.

    Raises:
        DataError: it isn't an EPUB, is damaged or encrypted, or its XML isn't well-formed.
    """
    with open_zip(file.path, name=file.name, kind="an EPUB") as parts:
        package = read_package(parts)
        package.refuse_protected(parts)
        yield from _chapters(parts, package, left_out)


def _chapters(parts: ZipParts, package: Package, left_out: Counter[str]) -> Iterator[str]:
    prose = Prose(left_out)
    left_out.update(package.left_out)
    starts = package.chapter_starts
    has_begun = False  # whether a chapter of the table of contents has
    for part in package.spine:
        ids = starts.get(part, frozenset())
        if not starts or not has_begun or "" in ids:
            prose.chapter()
        has_begun = has_begun or bool(ids)
        page = WebText(prose, begins=ids, first_heading_begins=True, keeps=_OF_BOOKS)
        for _ in feed_xml(parts.chunks(part), page, name=parts.where(part)):
            yield from prose.take()
        prose.block()
    prose.finish()
    yield from prose.take()


FORMAT = book_format(
    (".epub",),
    "a chapter, by the table of contents, or else a file of the book; covers, contents, images and "
    "notes that are marked as such are left out",
    read_epub,
    is_binary=True,
)
