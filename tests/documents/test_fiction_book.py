"""FictionBooks: chapters are documents, and nothing of their text is lost."""

import gzip
import re
import tracemalloc
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptft.analysis.written_texts import read_texts
from gptft.config.data import DataConfig
from gptft.documents import whole_text
from gptft.documents.formats.fiction_book import FORMAT
from gptft.documents.formats.format import OpenedFile
from gptft.documents.record_format import find_format
from gptft.documents.records import RecordText
from gptft.documents.sources import find_texts
from gptft.documents.whole_text import read_whole_text
from gptft.errors import DataError
from gptft.text.encoding import examine_text, read_chunks
from tests.documents.books import FB2, documents, fb2_tree, left_out, write_fb2

CHAPTER = "<section><title><p>Глава {0}</p></title><p>Текст {0}.</p></section>"
_LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
_TEXT = st.lists(_LETTERS, min_size=1, max_size=4).map(" ".join)


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        documents(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (CHAPTER.format(1) + CHAPTER.format(2), ["Глава 1\n\nТекст 1.", "Глава 2\n\nТекст 2."]),
        # Titles alone begin one document with the chapter below them; a part's own text is one.
        (
            "<title><p>Книга</p></title><section><title><p>Часть</p></title>"
            f"<epigraph><p>Эпиграф</p></epigraph>{CHAPTER.format(1)}</section>",
            ["Книга\n\nЧасть\n\nЭпиграф\n\nГлава 1\n\nТекст 1."],
        ),
        (
            f"<section><title><p>Часть</p></title><section><p>От автора.</p></section>"
            f"{CHAPTER.format(1)}</section>",
            ["Часть\n\nОт автора.", "Глава 1\n\nТекст 1."],
        ),
        # A section without a title is a break within its chapter, wherever it stands.
        (
            f"{CHAPTER.format(1)}<section><p>Ещё.</p></section>",
            ["Глава 1\n\nТекст 1.\n\nЕщё."],
        ),
        ("<section><p>Без</p><p>названия</p></section>", ["Без\n\nназвания"]),
        # A poem's title is no chapter's.
        (
            "<section><title><p>А</p></title><p>До.</p><poem><title><p>Стих</p></title><stanza>"
            "<v>Мороз и солнце;</v>\n<v>день чудесный!</v></stanza><stanza><v>Ещё</v></stanza>"
            "<text-author>П.</text-author></poem></section>",
            ["А\n\nДо.\n\nСтих\n\nМороз и солнце;\nдень чудесный!\n\nЕщё\n\nП."],
        ),
        (
            "<section><p>a<emphasis>b</emphasis>c <strong>d</strong>\n  e&#160;f</p><empty-line/>"
            "<subtitle>* * *</subtitle><p>сло\u00adво</p></section>",
            ["abc d e\u00a0f\n\n* * *\n\nслово"],
        ),
        (
            "<section><table><tr><th>а</th><th>б</th></tr><tr><td>1</td><td/><td>2</td></tr>"
            "</table></section>",
            ["а\tб\n1\t\t2"],
        ),
        ("<section><p>A&nbsp;&mdash;&lt;b&amp;</p></section>", ["A\u00a0—<b&"]),
        ("<section><p>x<![CDATA[<y>&nbsp;]]></p>голый</section>", ["x<y>&nbsp;\n\nголый"]),
        ("", []),
    ],
)  # fmt: skip
def test_chapters_are_documents(tmp_path: Path, body: str, expected: list[str]):
    assert documents(write_fb2(tmp_path / "a.fb2", body)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1251", "koi8-r", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_declared_encoding_is_taken(tmp_path: Path, encoding: str, line_end: str):
    path = write_fb2(tmp_path / "a.fb2", f"<section>{line_end}<p>Ёж и съезд</p></section>",
                     encoding=encoding)  # fmt: skip
    assert documents(path) == ["Ёж и съезд"]


def test_utf8_that_calls_itself_windows_1251_is_utf8(tmp_path: Path):
    path = write_fb2(tmp_path / "a.fb2", "<section><p>Ёж</p></section>")
    path.write_bytes(path.read_bytes().replace(b'"utf-8"', b'"windows-1251"'))
    assert documents(path) == ["Ёж"]


def test_notes_images_and_the_description_are_left_out(tmp_path: Path):
    path = write_fb2(
        tmp_path / "a.fb2",
        '<section><p>Раз<a l:href="#n_1" type="note">[1]</a>, два<a l:href="#n2">2</a>, '
        '<a l:href="#ch2">три</a> <image l:href="#i.png"/>.</p></section>',
        more='<body name="notes"><title><p>Примечания</p></title><section id="n_1"><p>Сноска</p>'
        '</section><section id="n2"><p>Ещё</p></section></body>'
        '<binary id="i.png" content-type="image/png">' + "QUFB\n" * 500_000 + "</binary>",
    )
    assert documents(path) == ["Раз, два, три ."]
    assert left_out(path) == {"images": 1, "note marks": 2, "notes": 2}


def test_a_second_body_that_isnt_notes_is_read(tmp_path: Path):
    path = write_fb2(tmp_path / "a.fb2", CHAPTER.format(1), more='<body name="Том 2">'
                     f"{CHAPTER.format(2)}</body>")  # fmt: skip
    assert len(documents(path)) == 2
    assert left_out(path) == {}


@given(st.lists(st.tuples(_TEXT, st.lists(_TEXT, min_size=1, max_size=3)), max_size=4))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_the_standard_library_writes_is_read(
    tmp_path: Path, chapters: list[tuple[str, list[str]]]
):
    path = tmp_path / "any.fb2"
    ElementTree.ElementTree(fb2_tree(chapters)).write(path, encoding="utf-8", xml_declaration=True)
    clean = [[title, *texts] for title, texts in chapters]
    expected = ["\n\n".join(re.sub(r"[ \t\r\n\f]+", " ", text) for text in one) for one in clean]
    assert documents(path) == [text.replace("\u00ad", "") for text in expected]


@pytest.mark.parametrize("suffix", [".fb2.gz", ".fb2.zip", ".FB2.ZIP", ".fbz"])
def test_compressed(tmp_path: Path, suffix: str):
    book = write_fb2(tmp_path / "book.fb2", CHAPTER.format(1), encoding="windows-1251")
    packed = tmp_path / f"packed{suffix}"
    if suffix.endswith("gz"):
        packed.write_bytes(gzip.compress(book.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(book, "book.fb2")
    assert documents(packed) == documents(book) == ["Глава 1\n\nТекст 1."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<FictionBook>\n<p>a</FictionBook>", r"a\.fb2:2: not well-formed.*mismatched tag\)"),
        ("<FictionBook><body><p>a", r"a\.fb2:1: the XML ends before its text is over\. Get the"),
        ("", r"a\.fb2:1: the XML ends before"),
        ("Мороз и солнце", r"a\.fb2:1: not well-formed XML"),
        ("<FictionBook><body><p>R & D</p></body></FictionBook>", r"a\.fb2:1: not well-formed XML"),
        ("<html><body/></html>", r"a\.fb2 is not a FictionBook: its text is in <html>"),
        ("<FictionBook>&foo;</FictionBook>", r"a\.fb2:1: &foo; is an entity that neither"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><FictionBook>&a;</FictionBook>', "it declares an entity"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><FictionBook/>', "an entity of"),
        ('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/x">%p;]><FictionBook/>', "own, 'p'"),
        ("<FictionBook><body><p>a\x0bb</p></body></FictionBook>", "not well-formed XML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, content: str, said: str):
    (tmp_path / "a.fb2").write_text(content, encoding="utf-8")
    assert re.search(said, refused(tmp_path / "a.fb2"))


def test_a_billion_laughs_are_refused_at_once(tmp_path: Path):
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><FictionBook a="&l9;"/>'
    (tmp_path / "a.fb2").write_text(bomb, encoding="utf-8")
    assert "declares an entity" in refused(tmp_path / "a.fb2")


@pytest.mark.parametrize("depth", [300, 30_000])
def test_depth_is_no_limit(tmp_path: Path, depth: int):
    body = "<section>" * depth + "<p>глубоко</p>" + "</section>" * depth
    assert documents(write_fb2(tmp_path / "a.fb2", body)) == ["глубоко"]


def test_an_external_dtd_is_never_opened(tmp_path: Path):
    (tmp_path / "evil.dtd").write_text('<!ENTITY nbsp "ЗЛО">', encoding="utf-8")
    text = f'<!DOCTYPE x SYSTEM "evil.dtd"><FictionBook xmlns="{FB2}"><body><p>a&nbsp;b</p></body></FictionBook>'  # noqa: E501
    (tmp_path / "a.fb2").write_text(text, encoding="utf-8")
    assert documents(tmp_path / "a.fb2") == ["a\u00a0b"]


def test_a_zip_without_a_book_and_one_that_is_none(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.fb2.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "there is no .fb2 file in it" in refused(tmp_path / "a.fb2.zip")
    (tmp_path / "b.fb2.zip").write_bytes(b"PK\x03\x04 and no more")
    assert "b.fb2.zip is not a zip archive, or not an intact one" in refused(tmp_path / "b.fb2.zip")


def test_all_files_that_cant_be_read_are_named_at_once(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.fb2").write_text("<FictionBook>", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        documents(tmp_path)
    assert "a.fb2:1" in str(caught.value)
    assert "b.fb2:1" in str(caught.value)


def test_a_large_book_is_streamed(tmp_path: Path):
    text = "Слово за словом. " * 60
    body = "".join(CHAPTER.format(f"{n}. {text}") for n in range(5000))
    path = write_fb2(tmp_path / "a.fb2", body)
    assert path.stat().st_size > 18_000_000
    facts = examine_text(path, encoding="auto")
    chunks = read_chunks(path, facts, line_ends="keep", chunk_bytes=1_000_000)
    assert FORMAT.read_records is not None
    tracemalloc.start()
    records = FORMAT.read_records(OpenedFile("a", path, chunks), RecordText())
    number = sum(1 for _ in records)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert number == 5000
    assert peak < 12_000_000


def test_a_book_is_no_file_of_records(tmp_path: Path):
    book = write_fb2(tmp_path / "a.fb2", CHAPTER.format(1))
    (tmp_path / "b.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    data = DataConfig.model_validate({"train": [str(book)]})
    assert find_format(find_texts(data), data).format == "text"
    for train, format, said in (
        ([book], "messages", "a.fb2: data.format is messages, and a text file has no records"),
        ([book, tmp_path / "b.jsonl"], "auto", "text, as .*a.fb2 .a text file.; prompt_completion"),
    ):
        data = DataConfig.model_validate({"train": [*map(str, train)], "format": format})
        with pytest.raises(DataError, match=said):
            find_format(find_texts(data), data)


def test_a_zip_under_the_name_of_a_book(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.fb2", "w") as archive:
        archive.writestr("a.fb2", "x")
    assert "a zip archive, as .docx and .epub are. End its name in .fb2.zip" in refused(
        tmp_path / "a.fb2"
    )


def test_one_text_of_a_book_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_fb2(tmp_path / "a.fb2", CHAPTER.format(1) + CHAPTER.format(2))
    assert read_whole_text(path) == "Глава 1\n\nТекст 1.\n\nГлава 2\n\nТекст 2."
    assert [one.continuation for one in read_texts(str(path))] == [read_whole_text(path)]
    monkeypatch.setattr(whole_text, "_MAX_TEXT", 20)
    with pytest.raises(DataError, match="more than 20 characters of text"):
        read_whole_text(path)
