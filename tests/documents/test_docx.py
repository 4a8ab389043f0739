"""Documents of Word, written by python-docx, whose reader isn't ours."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from docx.document import Document
from docx.oxml import parse_xml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptft.errors import DataError
from tests.documents.books import documents, left_out

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_LINES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
    min_size=1,
).map(" ".join)  # fmt: skip


def saved(path: Path, fill: Callable[[Document], object]) -> Path:
    document = docx.Document()
    fill(document)
    document.save(str(path))
    return path


def with_xml(path: Path, *paragraphs: str) -> Path:
    """A document with paragraphs as Word writes them."""

    def fill(document: Document) -> None:
        end = document.element.body.sectPr
        for xml in paragraphs:
            end.addprevious(parse_xml(xml.replace(">", f" {W}>", 1)))

    return saved(path, fill)


def test_headings_of_level_1_begin_documents(tmp_path: Path):
    def fill(document: Document) -> None:
        document.add_heading("Название", 0)
        document.add_heading("Один", 1)
        document.add_paragraph("Первый.")
        document.add_heading("Раздел", 2)
        document.add_paragraph("Второй.")
        document.add_heading("Два", 1)
        document.add_heading("Два с половиной", 1)
        document.add_paragraph("Третий.")

    assert documents(saved(tmp_path / "a.docx", fill)) == [
        "Название\n\nОдин\n\nПервый.\n\nРаздел\n\nВторой.",
        "Два\n\nДва с половиной\n\nТретий.",
    ]


def test_without_headings_it_is_one_document(tmp_path: Path):
    path = saved(tmp_path / "a.docx", lambda d: [d.add_paragraph(text) for text in ("А", "", "Б")])
    assert documents(path) == ["А\n\nБ"]


@given(st.lists(_LINES, min_size=1, max_size=5))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_text_is_what_python_docx_reads(tmp_path: Path, texts: list[str]):
    path = saved(tmp_path / "any.docx", lambda d: [d.add_paragraph(text) for text in texts])
    theirs = [paragraph.text for paragraph in docx.Document(str(path)).paragraphs]
    assert theirs == texts
    assert documents(path) == ["\n\n".join(theirs)]


def test_tables_are_lines(tmp_path: Path):
    def fill(document: Document) -> None:
        document.add_paragraph("До.")
        table = document.add_table(2, 3)
        for row in (0, 1):
            for column in (0, 1, 2):
                table.cell(row, column).text = "" if column == 1 else f"{row}{column}"
        document.add_paragraph("После.")
        table = document.add_table(1, 2)
        table.cell(0, 0).text = "в две\nстроки"
        table.cell(0, 1).text = "а"
        table.cell(0, 1).add_paragraph("и абзац")

    assert documents(saved(tmp_path / "a.docx", fill)) == [
        "До.\n\n00\t\t02\n10\t\t12\n\nПосле.\n\nв две\nстроки\n\nа\n\nи абзац"
    ]


def test_runs_tabs_breaks_and_links(tmp_path: Path):
    def fill(document: Document) -> None:
        paragraph = document.add_paragraph("раз\tдва\nтри  четыре ")
        paragraph.add_run("жир").bold = True
        paragraph.add_run("но")

    assert documents(saved(tmp_path / "a.docx", fill)) == ["раз\tдва\nтри  четыре жирно"]


@pytest.mark.parametrize(
    ("xml", "text", "counts"),
    [
        ("<w:p><w:r><w:t>а</w:t></w:r><w:ins><w:r><w:t>б</w:t></w:r></w:ins><w:del><w:r><w:delText>"
         "в</w:delText></w:r></w:del></w:p>", "аб", {"deleted passages": 1}),
        ("<w:p><w:r><w:t>а</w:t></w:r><w:r><w:footnoteReference w:id='1'/></w:r><w:r><w:t>б</w:t>"
         "<w:commentReference w:id='1'/></w:r></w:p>", "аб", {"notes": 1, "comments": 1}),
        ("<w:p><w:pPr><w:rPr><w:vanish/></w:rPr></w:pPr><w:r><w:t>а</w:t></w:r><w:r><w:rPr>"
         "<w:vanish/></w:rPr><w:t>тайна</w:t></w:r><w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>б"
         "</w:t></w:r></w:p>", "аб", {"hidden characters": 5}),
        ("<w:sdt><w:sdtContent><w:p><w:r><w:t>аб</w:t></w:r></w:p></w:sdtContent></w:sdt>",
         "аб", {}),
        ("<w:p><w:r><w:t>аб</w:t></w:r><w:r><mc:AlternateContent xmlns:mc='http://schemas.openxml"
         "formats.org/markup-compatibility/2006'><mc:Choice><w:drawing><w:txbxContent><w:p><w:r><w:t>"
         "надпись</w:t></w:r></w:p></w:txbxContent></w:drawing></mc:Choice><mc:Fallback><w:pict>"
         "<w:txbxContent/></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>", "аб",
         {"images": 1, "text boxes": 1}),
        ("<w:p><w:r><w:t>аб</w:t><w:drawing><w:p><w:r><w:t>надпись</w:t></w:r></w:p></w:drawing>"
         "</w:r></w:p>", "аб", {"images": 1}),
        ("<w:p><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:t>а</w:t><w:softHyphen/><w:t>б"
         "</w:t></w:r></w:p>", "аб", {}),
        ("<w:p><w:hyperlink><w:r><w:t>а</w:t></w:r></w:hyperlink><w:smartTag><w:r><w:t>б</w:t>"
         "</w:r></w:smartTag></w:p>", "аб", {}),
        ("<w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr><w:r><w:t>аб</w:t></w:r></w:p>",
         "аб", {}),
    ],
)  # fmt: skip
def test_what_a_reader_sees(tmp_path: Path, xml: str, text: str, counts: dict[str, int]):
    path = with_xml(tmp_path / "a.docx", xml)
    assert documents(path) == [text]
    assert left_out(path) == dict(sorted(counts.items()))


def test_a_table_of_contents_is_left_out(tmp_path: Path):
    contents = (
        "<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val='Table of Contents'/>"
        "</w:docPartObj></w:sdtPr><w:sdtContent><w:p><w:r><w:t>Оглавление</w:t></w:r></w:p>"
        "</w:sdtContent></w:sdt>"
    )
    text = "<w:p><w:r><w:t>Текст</w:t></w:r></w:p>"
    path = with_xml(tmp_path / "a.docx", contents, text)
    assert documents(path) == ["Текст"]
    assert left_out(path) == {"contents": 1}


def test_a_level_of_the_paragraph_itself(tmp_path: Path):
    path = with_xml(
        tmp_path / "a.docx",
        "<w:p><w:r><w:t>До</w:t></w:r></w:p>",
        "<w:p><w:pPr><w:outlineLvl w:val='0'/></w:pPr><w:r><w:t>Глава</w:t></w:r></w:p>",
        "<w:p><w:r><w:t>После</w:t></w:r></w:p>",
    )
    assert documents(path) == ["До", "Глава\n\nПосле"]


def test_a_style_made_after_heading_1(tmp_path: Path):
    def fill(document: Document) -> None:
        style = document.styles.add_style("Моя глава", 1)
        style.base_style = document.styles["Heading 1"]
        for name in ("Раз", "Два"):
            document.add_paragraph(name, style=style)
            document.add_paragraph("Текст")

    assert documents(saved(tmp_path / "a.docx", fill)) == ["Раз\n\nТекст", "Два\n\nТекст"]


def test_what_is_no_document_of_word(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("x.txt", "x")
    (tmp_path / "b.docx").write_bytes(b"\xd0\xcf\x11\xe0 an old one")
    for name, said in (("a", "there is no document in it"), ("b", "not an intact one")):
        with pytest.raises(DataError, match=rf"{name}\.docx is not a document of Word.*{said}"):
            documents(tmp_path / f"{name}.docx")
