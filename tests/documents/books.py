"""Books and pages made by other hands than our readers', and what is read of them."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from gptft.documents.corpus import find_corpus
from gptft.documents.read import whole_documents

FB2 = "http://www.gribuser.ru/xml/fictionbook/2.0"
XHTML = "http://www.w3.org/1999/xhtml"
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)


def documents(*paths: Path) -> list[str]:
    """The documents that training takes of some files."""
    data, texts, _ = find_corpus([*map(str, paths)])
    return [document for text in texts for document in whole_documents(text, data)]


def left_out(path: Path) -> dict[str, int]:
    """How much of each kind a file's reader leaves out."""
    _, (text,), _ = find_corpus([str(path)])
    return dict(text.facts.left_out)


def write_fb2(path: Path, body: str, *, more: str = "", encoding: str = "utf-8") -> Path:
    """A FictionBook with `body` in its body, and `more` after that."""
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<FictionBook xmlns="{FB2}" '
        'xmlns:l="http://www.w3.org/1999/xlink"><description><title-info><book-title>Имя книги'
        f"</book-title></title-info></description><body>{body}</body>{more}</FictionBook>"
    )
    path.write_bytes(text.encode(encoding))
    return path


def fb2_tree(chapters: Sequence[tuple[str, Sequence[str]]]) -> ElementTree.Element:
    """A FictionBook by the standard library: titles, each with its paragraphs."""
    ElementTree.register_namespace("", FB2)
    root = ElementTree.Element(f"{{{FB2}}}FictionBook")
    body = ElementTree.SubElement(root, f"{{{FB2}}}body")
    for title, paragraphs in chapters:
        section = ElementTree.SubElement(body, f"{{{FB2}}}section")
        heading = ElementTree.SubElement(section, f"{{{FB2}}}title")
        ElementTree.SubElement(heading, f"{{{FB2}}}p").text = title
        for paragraph in paragraphs:
            ElementTree.SubElement(section, f"{{{FB2}}}p").text = paragraph
    return root


def page(body: str, *, head: str = "") -> str:
    """A page of XHTML."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" '
        f'"http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">\n<html xmlns="{XHTML}" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>T</title>{head}</head>'
        f"<body>{body}</body></html>"
    )


def write_epub(
    path: Path,
    pages: Mapping[str, str],
    *,
    toc: Sequence[str] = (),
    spine: Sequence[str] | None = None,
    package: str = "",
    landmarks: str = "",
    more: Mapping[str, str | bytes] | None = None,
) -> Path:
    """An EPUB 3 with pages by name, all of them in the spine unless others are named.

    Args:
        path: the file.
        pages: the body of each, or a whole page that begins as XML.
        toc: where the entries of the table of contents lead; without any there is none.
        spine: names of pages, a name with " no" after it outside the reading order.
        package: what else stands in the package.
        landmarks: the list of a nav of landmarks.
        more: other parts by name.
    """
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(pages)
    )
    number = {name: n for n, name in enumerate(pages)}
    refs = "".join(
        f'<itemref idref="i{number[one.split()[0]]}"{" linear=" + chr(34) + "no" + chr(34) if " " in one else ""}/>'  # noqa: E501
        for one in (spine or [*pages])
    )
    if toc or landmarks:
        items += (
            '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        )
        refs = '<itemref idref="nav"/>' + refs
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>'
        f"{items}</manifest><spine>{refs}</spine>{package}</package>"
    )
    entries = "".join(f'<li><a href="{href}">Entry</a></li>' for href in toc)
    nav = page(
        f'<nav epub:type="toc"><ol>{entries}</ol></nav>'
        f'<nav epub:type="landmarks"><ol>{landmarks}</ol></nav>'
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", opf)
        archive.writestr("OEBPS/nav.xhtml", nav)
        for name, body in pages.items():
            archive.writestr(f"OEBPS/{name}", body if body.startswith("<?xml") else page(body))
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path
