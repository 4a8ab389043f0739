"""EPUBs: chapters in reading order are documents; what a bad archive holds is one line."""

import re
import zipfile
from pathlib import Path

import pytest

from gptft.errors import DataError
from tests.documents.books import CONTAINER, documents, left_out, page, write_epub

CHAPTERS = {f"ch{n}.xhtml": f"<h1>Глава {n}</h1><p>Текст {n}.</p>" for n in (1, 2, 3)}
TEXTS = [f"Глава {n}\n\nТекст {n}." for n in (1, 2, 3)]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        documents(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("toc", [(), ("ch1.xhtml", "ch2.xhtml", "ch3.xhtml"), ("ch2.xhtml",)])
def test_chapters_are_documents(tmp_path: Path, toc: tuple[str, ...]):
    assert documents(write_epub(tmp_path / "a.epub", CHAPTERS, toc=toc)) == TEXTS


def test_the_order_is_the_spines(tmp_path: Path):
    spine = ["ch3.xhtml", "ch1.xhtml", "ch2.xhtml no"]
    path = write_epub(tmp_path / "a.epub", CHAPTERS, spine=spine)
    assert documents(path) == [TEXTS[2], TEXTS[0]]
    assert left_out(path) == {"parts outside the reading order": 1}


def test_a_file_that_the_contents_dont_name_continues_its_chapter(tmp_path: Path):
    pages = {"a.xhtml": "<p>Один,</p>", "b.xhtml": "<p>и дальше.</p>", "c.xhtml": "<p>Два.</p>"}
    path = write_epub(tmp_path / "a.epub", pages, toc=("a.xhtml", "c.xhtml"))
    assert documents(path) == ["Один,\n\nи дальше.", "Два."]


def test_chapters_within_a_file(tmp_path: Path):
    body = '<p>До.</p><h2 id="a">А</h2><p>1</p><h2><a id="б"/>Б</h2><p>2</p>'
    toc = ("book.xhtml#a", "book.xhtml#%D0%B1")
    path = write_epub(tmp_path / "a.epub", {"book.xhtml": body}, toc=toc)
    assert documents(path) == ["До.", "А\n\n1", "Б\n\n2"]


def test_a_parts_heading_stands_before_its_first_chapter(tmp_path: Path):
    pages = {"part.xhtml": "<h1>Часть</h1>", **CHAPTERS}
    path = write_epub(tmp_path / "a.epub", pages, toc=[*pages])
    assert documents(path) == [f"Часть\n\n{TEXTS[0]}", *TEXTS[1:]]


def test_the_contents_of_epub_2(tmp_path: Path):
    ncx = (
        '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>'
        '<navPoint><content src="a%20b.xhtml"/></navPoint>'
        '<navPoint><content src="a%20b.xhtml#two"/></navPoint></navMap></ncx>'
    )
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        '<item id="n" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        '<item id="a" href="text/../a%20b.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine toc="n"><itemref idref="a"/><itemref idref="gone"/></spine></package>'
    )
    body = '<p>Один</p><p id="two">Два</p>'
    more = {"OEBPS/toc.ncx": ncx, "OEBPS/book.opf": opf}
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as archive:
        for name, text in {"META-INF/container.xml": CONTAINER, **more}.items():
            archive.writestr(name, text)
        archive.writestr("OEBPS/a b.xhtml", page(body))
    assert documents(tmp_path / "a.epub") == ["Один", "Два"]


def test_covers_contents_notes_and_pictures_are_left_out(tmp_path: Path):
    pages = {
        "cover.xhtml": "<p>Обложка</p>",
        "notes.xhtml": "<p>1. Сноска</p>",
        "a.xhtml": "<p>Раз<a epub:type='noteref' href='#n'>1</a>&nbsp;два<img src='x'/></p>"
        "<aside epub:type='footnote' id='n'><p>Сноска</p></aside><aside><p>Врезка</p></aside>"
        "<section role='doc-endnotes'><p>Ещё</p></section><span epub:type='pagebreak'>12</span>",
    }
    path = write_epub(
        tmp_path / "a.epub",
        pages,
        toc=("a.xhtml",),
        landmarks='<li><a epub:type="cover" href="cover.xhtml">c</a></li>',
        package='<guide><reference type="notes" href="notes.xhtml"/></guide>',
    )
    assert documents(path) == ["Раз\u00a0два\n\nВрезка"]
    assert left_out(path) == {
        "contents": 1, "covers": 1, "images": 1, "note marks": 1, "notes": 3, "page numbers": 1,
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "windows-1251"])
def test_pages_in_other_encodings(tmp_path: Path, encoding: str):
    text = page("<p>Ёж</p>").replace("utf-8", encoding, 1)
    path = write_epub(tmp_path / "a.epub", {"a.xhtml": "<?xml?>"})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["OEBPS/a.xhtml"] = text.encode(encoding)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert documents(path) == ["Ёж"]


def test_a_protected_book_is_refused_and_one_with_hidden_fonts_is_read(tmp_path: Path):
    for hidden in ("ch1.xhtml", "font.otf"):
        encryption = (
            '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
            f'<enc:CipherData><enc:CipherReference URI="OEBPS/{hidden}"/></enc:CipherData>'
            "</enc:EncryptedData></encryption>"
        )
        path = tmp_path / f"{hidden}.epub"
        write_epub(path, CHAPTERS, more={"META-INF/encryption.xml": encryption})
        if hidden == "font.otf":
            assert documents(path) == TEXTS
        else:
            assert "is protected (DRM)" in refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"a\.epub is not an EPUB, or not an intact one"),
        (b"x" * 100, r"a\.epub is not an EPUB, or not an intact one"),
        (b"PK\x03\x04\x14\0\x06\0", r"a\.epub is not an EPUB, or not an intact one"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "a.epub").write_bytes(content)
    assert re.match(rf".*{said}", refused(tmp_path / "a.epub"))


def test_a_damaged_page_and_one_that_isnt_there(tmp_path: Path):
    path = write_epub(tmp_path / "a.epub", {"a.xhtml": "<p>" + "Мороз и солнце. " * 99 + "</p>"})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"OEBPS/a.xhtml") + 60
    raw[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "bad.epub").write_bytes(raw)
    assert "not an intact one" in refused(tmp_path / "bad.epub")
    (tmp_path / "cut.epub").write_bytes(raw[: len(raw) // 2])
    assert "not an intact one" in refused(tmp_path / "cut.epub")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "less.epub", "w") as archive:
        for name, content in parts.items():
            if name != "OEBPS/a.xhtml":
                archive.writestr(name, content)
    assert "there is no OEBPS/a.xhtml in it" in refused(tmp_path / "less.epub")
    malformed = write_epub(tmp_path / "xml.epub", {"a.xhtml": "<?xml version='1.0'?>\n<p>a<b></p>"})
    assert "xml.epub/OEBPS/a.xhtml:2: not well-formed XML" in refused(malformed)


def test_other_archives_are_told_apart(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as archive:
        archive.writestr("x.txt", "x")
    assert "is not an EPUB: there is no META-INF/container.xml" in refused(tmp_path / "a.epub")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "a.epub"
    write_epub(path, {"a.xhtml": "<p/>"})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            bomb = page("").encode()[:-14] + b"<!--" + b" " * 120_000_000 + b"--></body></html>"
            archive.writestr(name, bomb if name == "OEBPS/a.xhtml" else content)
    assert path.stat().st_size < 500_000
    assert "unpacks to over 100 times the size of the archive" in refused(path)


def test_compressed_again_is_refused_with_the_way_out(tmp_path: Path):
    (tmp_path / "a.epub.gz").write_bytes(b"x")
    assert "a binary format can't be read compressed" in refused(tmp_path / "a.epub.gz")
