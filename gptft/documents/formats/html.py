"""A page of HTML or XHTML -> the text that a reader sees."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gptft.documents.formats.format import OpenedFile, book_format
from gptft.documents.prose import Prose
from gptft.documents.web_text import WebText
from gptft.documents.xml_events import feed_xml
from gptft.errors import DataError
from gptft.terminal.commands import install_command


class _Target:
    """What lxml tells of a page."""

    def __init__(self, page: WebText) -> None:
        self.start, self.end, self.data = page.start, page.end, page.text

    def comment(self, text: str) -> None:
        """Nobody sees it."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Nobody sees it."""

    def close(self) -> None:
        """The page is over."""


def read_html(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The text of a page, one document; of its main element, where it has one with text.

    Tags are taken as browsers take them, so that no page is malformed. Scripts, styles,
    navigation, footers and asides, forms, images and what is hidden are left out.

    Raises:
        DataError: lxml isn't installed.
    """
    page, main = Prose(left_out), Prose(left_out)
    parser: Any = None
    for chunk in file.chunks:
        if parser is None:
            parser = _parser(_Target(WebText(page, main=main)), file.name)
        parser.feed(chunk.encode())
    if parser is not None:
        parser.close()
    yield from _text_of(page, main, left_out)


def read_xhtml(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The text of a page as `read_html` gives it, its tags taken as XML's.

    Raises:
        DataError: it isn't well-formed XML.
    """
    page, main = Prose(left_out), Prose(left_out)
    for _ in feed_xml(file.chunks, WebText(page, main=main), name=file.name):
        pass
    yield from _text_of(page, main, left_out)


def _text_of(page: Prose, main: Prose, left_out: Counter[str]) -> Iterator[str]:
    """The one document of a page: of its main elements, if they have text."""
    page.finish()
    main.finish()
    outside, documents = page.take(), main.take()
    if documents and outside:
        left_out["paragraphs outside <main>"] += outside[0].count("\n\n") + 1
    yield from documents or outside


def _parser(target: _Target, name: str) -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise DataError(
            f"{name}: HTML is read with lxml, which isn't installed. Install it: "
            f"{install_command('lxml')}"
        ) from None
    # Without huge_tree, text that is nested deeper than 256 elements is dropped without a word.
    return etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True, no_network=True)


FORMAT = book_format(
    (".html", ".htm"),
    "the page: its `<main>`, if it has one, without scripts, navigation, forms and images",
    read_html,
    package="lxml",
    version=2,  # 1 took it for plain text
)
# Not as HTML, which takes <script src="..."/> for the beginning of a script.
XHTML = book_format((".xhtml",), "the page, as in `.html`", read_xhtml, version=2)
