"""A document of Word -> the text of its chapters.

The format: ECMA-376, part 1, WordprocessingML.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gptft.documents.formats.format import OpenedFile, book_format
from gptft.documents.prose import Prose
from gptft.documents.xml_events import feed_xml
from gptft.documents.zip_parts import ZipParts, open_zip
from gptft.errors import DataError

# The transitional form, which Word writes, and the strict one.
_WORD = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "http://purl.oclc.org/ooxml/wordprocessingml/main",
)
# What stands before it says the same for newer programs.
_FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_FIRST_LEVEL = 0  # of w:outlineLvl, which counts from 0
_BODY_LEVEL = 9
# Elements that are left out with all in them, and what they count as.
_LEFT_OUT = {
    "del": "deleted passages", "moveFrom": "deleted passages", "drawing": "images",
    "pict": "images", "object": "images", "instrText": "", "delText": "", "rt": "readings",
}  # fmt: skip
_REFERENCES = {
    "footnoteReference": "notes", "endnoteReference": "notes", "commentReference": "comments",
}  # fmt: skip
_CHARACTERS = {"tab": "\t", "noBreakHyphen": "\u2011", "br": "\n", "cr": "\n"}
_MATHS = ("oMath", "oMathPara")


@dataclass
class _Style:
    """A style of paragraphs: its name, the level of its heading, and the style it goes by."""

    name: str = ""
    level: int | None = None
    based_on: str | None = None


@dataclass(frozen=True)
class _Styles:
    """The styles of a document by id."""

    by_id: dict[str, _Style] = field(default_factory=dict)

    def level(self, style: str | None) -> int:
        """The level of the headings that a style makes; 9 where it makes none."""
        seen = set()
        while style is not None and style not in seen and style in self.by_id:
            seen.add(style)
            found = self.by_id[style]
            if found.level is not None:
                return found.level
            name, _, number = found.name.lower().partition(" ")
            if name == "heading" and number.isdecimal():
                return int(number) - 1
            style = found.based_on
        return _BODY_LEVEL

    def is_contents(self, style: str | None) -> bool:
        """Whether a style is of the lines of a table of contents."""
        name = self.by_id[style].name.lower() if style in self.by_id else ""
        return name.startswith("toc ") and name[4:].isdecimal()

    def is_title(self, style: str | None) -> bool:
        """Whether a style is of the title of the whole document."""
        return style in self.by_id and self.by_id[style].name.lower() in ("title", "subtitle")


class _StyleReader:
    """Takes the tags of styles.xml, and fills `styles`."""

    def __init__(self) -> None:
        self.styles = _Styles()
        self._style = _Style()

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name, value = _word(tag), _attribute(attributes, "val")
        if name == "style":
            self._style = _Style()
            self.styles.by_id[_attribute(attributes, "styleId")] = self._style
        elif name == "name":
            self._style.name = value
        elif name == "basedOn":
            self._style.based_on = value
        elif name == "outlineLvl" and value.isdecimal():
            self._style.level = int(value)

    def end(self, tag: str) -> None:
        """What follows stands for itself."""

    def text(self, data: str) -> None:
        """It isn't needed."""


class _Document:
    """Takes the tags and text of document.xml, and fills `prose`."""

    def __init__(self, prose: Prose, styles: _Styles) -> None:
        prose.keeps_space += 1
        self._prose, self._styles = prose, styles
        self._unread = 0  # how many of the open elements, from the innermost, are left out
        self._is_said_before = False  # whether what isn't read stands twice
        self._in_text = self._in_contents = self._is_hidden = False
        self._style: str | None = None
        self._level: int | None = None  # of a heading, as the paragraph itself has it
        self._has_begun = True  # whether the paragraph's style has been told
        self._is_heading = False
        self._sdt: list[bool] = []  # of each content control, whether it is a table of contents

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _word(tag)
        if self._unread:
            self._unread += 1
            if name == "txbxContent" and not self._is_said_before:
                self._prose.left_out["text boxes"] += 1
        elif (what := self._what_is_left_out(tag, name, attributes)) is not None:
            self._unread = 1
            self._is_said_before = tag == _FALLBACK
            self._prose.left_out[what] += bool(what)
        elif name is not None:
            self._open_element(name, attributes)

    def _open_element(self, name: str, attributes: Mapping[str, str]) -> None:
        prose, value = self._prose, _attribute(attributes, "val")
        if name == "p":
            prose.block()
            self._style, self._level, self._has_begun = None, None, False
        elif name == "pStyle":
            self._style = value
        elif name == "outlineLvl" and value.isdecimal():
            self._level = int(value)
        elif name == "vanish":
            self._is_hidden = value not in ("0", "false", "off")
        elif name == "r":  # the mark of a paragraph may be hidden as well, and that says nothing
            self._is_hidden = False
        elif name == "t":
            self._in_text = True
        elif name in _CHARACTERS:
            self._add(_CHARACTERS[name])
        elif name == "sym":
            prose.left_out["symbols"] += 1
        elif name in _REFERENCES:
            prose.left_out[_REFERENCES[name]] += 1
        elif name == "sdt":
            self._sdt.append(False)
        elif name == "docPartGallery" and self._sdt and value == "Table of Contents":
            self._sdt[-1] = True
        elif name == "tbl":
            prose.open_table()
        elif name == "tc":
            prose.open_cell()

    def end(self, tag: str) -> None:
        name = _word(tag)
        if self._unread:
            self._unread -= 1
        elif name == "p":
            self._end_paragraph()
        elif name == "t":
            self._in_text = False
        elif name == "sdt" and self._sdt:
            self._prose.left_out["contents"] += self._sdt.pop()
        elif name == "tbl":
            self._prose.close_table()
        elif name == "tc":
            self._prose.close_cell()
        elif name == "tr":
            self._prose.close_row()

    def text(self, data: str) -> None:
        if self._in_text and not self._unread:
            self._add(data)

    def _add(self, text: str) -> None:
        self._begin_paragraph()
        if self._is_hidden:
            self._prose.left_out["hidden characters"] += len(text)
        elif not (any(self._sdt) or self._in_contents):
            self._prose.text(text)

    def _begin_paragraph(self) -> None:
        """Say where the paragraph stands, once its properties are known and its text begins."""
        if self._has_begun:
            return
        self._has_begun = True
        self._in_contents = self._styles.is_contents(self._style)
        self._prose.left_out["lines of contents"] += self._in_contents
        level = self._styles.level(self._style) if self._level is None else self._level
        is_chapter = level == _FIRST_LEVEL and not (any(self._sdt) or self._in_contents)
        if is_chapter:
            self._prose.chapter()
        if level < _BODY_LEVEL or self._styles.is_title(self._style):
            self._is_heading = True
            self._prose.heading += 1

    def _end_paragraph(self) -> None:
        self._prose.block()
        self._prose.heading -= self._is_heading
        self._has_begun, self._is_heading, self._in_contents = True, False, False

    def _what_is_left_out(
        self, tag: str, name: str | None, attributes: Mapping[str, str]
    ) -> str | None:
        """What an element counts as that is left out, maybe nothing; None where it is read."""
        if name is None:
            if tag == _FALLBACK:
                return ""
            return "formulas" if tag.rpartition(" ")[2] in _MATHS else None
        if name == "tabs":  # where tabulators stand, of a paragraph's properties
            return ""
        return _LEFT_OUT.get(name)


def read_docx(file: OpenedFile, left_out: Counter[str]) -> Iterator[str]:
    """The chapters of a document: what a heading of level 1 begins, or all of it without one.

    Tables are lines of cells, a tab apart. Notes, comments, images, text that was deleted or is
    hidden, headers and footers are left out.

    Raises:
        DataError: it isn't a document of Word, or is damaged.
    """
    with open_zip(file.path, name=file.name, kind="a document of Word") as parts:
        main = _main_part(parts)
        prose = Prose(left_out)
        document = _Document(prose, _read_styles(parts, main))
        chunks = parts.chunks(main)
        for _ in feed_xml(chunks, document, name=parts.where(main), namespaces=True):
            yield from prose.take()
        prose.finish()
        yield from prose.take()


class _Relations:
    """Takes the tags of a .rels part: the target by the last word of its type."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "Relationship":
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.targets.setdefault(kind, attributes.get("Target", ""))

    def end(self, tag: str) -> None:
        """What follows stands for itself."""

    def text(self, data: str) -> None:
        """It isn't needed."""


def _targets(parts: ZipParts, part: str) -> dict[str, str]:
    """What a part refers to, by the kind of reference, as names of parts."""
    folder, name = posixpath.split(part)
    rels = posixpath.join(folder, "_rels", f"{name}.rels")
    if rels not in parts.names:
        return {}
    handler = _Relations()
    for _ in feed_xml([parts.read(rels)], handler, name=parts.where(rels)):
        pass
    return {kind: posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            for kind, target in handler.targets.items()}  # fmt: skip


def _main_part(parts: ZipParts) -> str:
    main = _targets(parts, "").get("officeDocument", "")
    if "[Content_Types].xml" not in parts.names or not main.endswith(".xml"):
        raise DataError(f"{parts.name} is not a document of Word: there is no document in it.")
    return main


def _read_styles(parts: ZipParts, main: str) -> _Styles:
    styles = _targets(parts, main).get("styles")
    reader = _StyleReader()
    if styles is not None and styles in parts.names:
        for _ in feed_xml([parts.read(styles)], reader, name=parts.where(styles), namespaces=True):
            pass
    return reader.styles


def _word(tag: str) -> str | None:
    """The local name of an element of WordprocessingML; None of any other."""
    namespace, _, name = tag.rpartition(" ")
    return name if namespace in _WORD else None


def _attribute(attributes: Mapping[str, str], name: str) -> str:
    return next((attributes[key] for word in _WORD if (key := f"{word} {name}") in attributes), "")


FORMAT = book_format(
    (".docx",),
    "what a heading of level 1 begins, or all of it without one; notes, comments and images are "
    "left out",
    read_docx,
    is_binary=True,
)
