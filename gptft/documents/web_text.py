"""Tags and text of HTML or XHTML -> paragraphs, headings and rows of what a reader sees.

Which elements stand as paragraphs: the HTML standard, section 15.3, Rendering.
"""

import re
from collections.abc import Collection, Mapping

from gptft.documents.prose import Prose

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_PARAGRAPHS = _HEADINGS | frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form",
    "header", "hgroup", "hr", "html", "legend", "listing", "main", "menu", "ol", "optgroup",
    "option", "p", "pre", "search", "section", "summary", "tbody", "tfoot", "thead", "ul",
})  # fmt: skip
_KEEPS_SPACE = frozenset({"pre", "listing"})
# Elements that are left out with all in them, and what they count as; none where nobody misses it.
_LEFT_OUT = {
    "script": "scripts", "style": "styles", "nav": "navigation", "footer": "footers",
    "aside": "asides", "svg": "images", "math": "formulas", "audio": "media", "video": "media",
    "object": "media", "iframe": "frames", "button": "form fields", "select": "form fields",
    "textarea": "form fields", "datalist": "form fields", "rt": "readings", "rp": "readings",
    "head": "", "template": "", "noscript": "", "canvas": "",
}  # fmt: skip
# What epub:type or role says of an element (https://www.w3.org/TR/epub-ssv-11).
_KINDS = {
    "footnote": "notes", "footnotes": "notes", "endnote": "notes", "endnotes": "notes",
    "rearnote": "notes", "rearnotes": "notes", "doc-footnote": "notes",
    "doc-endnote": "notes", "doc-endnotes": "notes", "noteref": "note marks",
    "doc-noteref": "note marks", "doc-backlink": "note marks", "backlink": "note marks",
    "pagebreak": "page numbers", "doc-pagebreak": "page numbers", "cover": "covers",
    "doc-cover": "covers", "toc": "contents", "doc-toc": "contents", "landmarks": "contents",
    "page-list": "contents", "doc-pagelist": "contents", "navigation": "navigation",
    "banner": "banners", "contentinfo": "footers", "search": "form fields",
}  # fmt: skip
_IN_ARTICLE = frozenset({"article", "section", "blockquote", "main"})  # whose footer is theirs
_INVISIBLE = re.compile(r"\bdisplay\s*:\s*none\b", re.I)


class WebText:
    """Takes the tags and text of a page, and tells `Prose` of them."""

    def __init__(
        self,
        prose: Prose,
        *,
        begins: Collection[str] = (),
        first_heading_begins: bool = False,
        main: Prose | None = None,
        keeps: Collection[str] = (),
    ) -> None:
        """Begin a page.

        Args:
            prose: where its text goes.
            begins: ids of elements that begin a document.
            first_heading_begins: whether a heading before all text of the page begins one.
            main: where the text of its main elements goes, if not to `prose`.
            keeps: elements that are read though they are left out of other pages.
        """
        self._page, self._main = prose, main or prose
        self._prose = prose
        self._begins, self._keeps = begins, keeps
        self._heading_may_begin = first_heading_begins
        self._open: list[str] = []
        self._unread = 0  # how many of the open elements, from the innermost, are left out

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._open.append(tag)
        if self._unread:
            self._unread += 1
            return
        if self._begins and attributes.get("id", attributes.get("name")) in self._begins:
            self._prose.chapter()
        what = self._what_is_left_out(tag, attributes)
        if what is not None:
            self._unread = 1
            self._prose.left_out[what] += bool(what)
            return
        if tag == "main":
            self._prose.block()
            self._prose = self._main
        if tag in _HEADINGS and self._heading_may_begin:
            self._prose.chapter()
        self._open_element(tag)

    def _open_element(self, tag: str) -> None:
        prose = self._prose
        if tag == "table":
            prose.open_table()
        elif tag in ("td", "th"):
            prose.open_cell()
        elif tag == "tr":
            prose.close_row()
        elif tag in ("br", "li"):
            prose.line()
        elif tag in ("img", "image"):
            prose.left_out["images"] += 1
        elif tag in _PARAGRAPHS:
            prose.block()
            prose.heading += tag in _HEADINGS
            prose.keeps_space += tag in _KEEPS_SPACE

    def end(self, tag: str) -> None:
        """An element ends."""
        self._open.pop()
        if self._unread:
            self._unread -= 1
            return
        prose = self._prose
        if tag == "table":
            prose.close_table()
        elif tag == "tr":
            prose.close_row()
        elif tag in ("td", "th"):
            prose.close_cell()
        elif tag in _PARAGRAPHS:
            prose.block()
            prose.heading -= tag in _HEADINGS
            prose.keeps_space -= tag in _KEEPS_SPACE
        if tag == "main" and "main" not in self._open:
            self._prose = self._page

    def text(self, data: str) -> None:
        """Some text."""
        if self._unread:
            return
        if self._heading_may_begin and not data.isspace():
            self._heading_may_begin = False
        self._prose.text(data)

    def _what_is_left_out(self, tag: str, attributes: Mapping[str, str]) -> str | None:
        """What an element counts as that is left out, maybe nothing; None where it is read."""
        said = f"{attributes.get('type', '')} {attributes.get('role', '')}".lower().split()
        if tag not in ("input", "ol", "ul", "li", "script", "style", "object", "source"):
            marked = next((kind for kind in said if kind in _KINDS), None)
        else:  # whose type isn't epub:type, unless it is one of these
            marked = next((kind for kind in said if _KINDS.get(kind) == "notes"), None)
        if marked is not None:
            return _KINDS[marked]
        if tag == "footer" and _IN_ARTICLE.intersection(self._open[:-1]):
            return None
        if tag in _LEFT_OUT and tag not in self._keeps:
            return _LEFT_OUT[tag]
        style = attributes.get("style", "")
        if "hidden" in attributes or (style and _INVISIBLE.search(style)):
            return "hidden parts"
        return None
