import gzip
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptft.config.data import DataConfig
from gptft.documents.formats.plain_text import Chunk, split_at_headings, split_documents
from gptft.documents.read import _without_blanks, read_documents
from gptft.errors import DataError
from tests.conftest import SHARED_CORPUS
from tests.documents.reference import scan, write_files


def whole(chunks: list[Chunk]) -> list[str]:
    """The documents that chunks make up."""
    documents = [""]
    for text, ends in chunks:
        documents[-1] += text
        documents += [""] if ends else []
    assert documents.pop() == ""
    return documents


def read(folder: Path, **given: object) -> list[str]:
    data = DataConfig.model_validate({"train": [str(folder)], **given})
    texts = scan(data, cache_dir=folder / ".cache")
    return [document for text in texts for document in whole([*read_documents(text, data)])]


STRETCHES = st.lists(st.text("ab-\n", min_size=1, max_size=6), max_size=12)


class TestSplit:
    """Text in stretches of any length gives what `str.split` gives of it in one."""

    @settings(max_examples=300, deadline=None)
    @given(stretches=STRETCHES, separator=st.text("ab-\n", min_size=1, max_size=4))
    def test_is_that_of_python(self, stretches: list[str], separator: str):
        chunks = [*split_documents(stretches, separator=separator)]
        assert whole(chunks) == "".join(stretches).split(separator)

    @settings(max_examples=50, deadline=None)
    @given(stretches=STRETCHES)
    def test_without_a_separator_is_one_document(self, stretches: list[str]):
        chunks = [*split_documents(stretches, separator=None)]
        assert [chunk.ends for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
        assert whole(chunks) == ["".join(stretches)]

    def test_hands_a_long_document_on_as_it_comes(self):
        chunks = split_documents((["abc"] * 10), separator="%%%")
        assert next(chunks) == Chunk("a", False)  # "bc" might have begun a separator
        assert all(len(chunk.text) <= 3 for chunk in chunks)

    def test_a_separator_may_lie_across_many_stretches(self):
        assert whole([*split_documents("a<|end|>b", separator="<|end|>")]) == ["a", "b"]
        assert whole([*split_documents("aaaaa", separator="aa")]) == ["", "", "a"]


HEADING = re.compile(r"[IVX]+\.?|Глава .*")


def is_heading(line: str) -> bool:
    return HEADING.fullmatch(line) is not None


def cut_whole(text: str) -> list[str]:
    """What `split_at_headings` is to give, of a text in one string, by numbers of lines."""
    lines = text.split("\n")
    blank = [not line.strip() for line in lines]
    headings = {
        n
        for n, line in enumerate(lines)
        if not blank[n]
        and len(line) <= 1000
        and HEADING.fullmatch(line.strip())
        and (n == 0 or (blank[n - 1] and len(lines[n - 1]) <= 1000))
    }
    text_lines = [n for n in range(len(lines)) if not blank[n] and n not in headings]
    begins = [0]
    for n in sorted(headings):
        if any(begins[-1] <= at < n for at in text_lines):
            begins.append(n)
    ends = [*begins[1:], len(lines)]
    cut = ["\n".join(lines[a:b]) for a, b in zip(begins, ends, strict=True)]
    return [document + "\n" for document in cut[:-1]] + cut[-1:]


class TestHeadings:
    """A text is cut where its chapters begin, and nothing of it is lost."""

    @settings(max_examples=500, deadline=None)
    @given(
        lines=st.lists(
            st.sampled_from(["", " ", "I", " IV. ", "Глава 1", "да", "I да", "\r", " " * 1001]),
            max_size=12,
        ),
        data=st.data(),
    )
    def test_in_stretches_of_any_length_as_in_one(self, lines: list[str], data: st.DataObject):
        text = "\n".join(lines)
        cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
        bounds = zip([0, *cuts], [*cuts, len(text)], strict=True)
        chunks = [*split_at_headings([text[a:b] for a, b in bounds], is_heading=is_heading)]
        assert whole(chunks) == cut_whole(text)
        assert "".join(whole(chunks)) == text

    @pytest.mark.parametrize(
        ("text", "documents"),
        [
            ("Анна\n\nI\n\nВсе.\n\nII\n\nДом.", ["Анна\n\n", "I\n\nВсе.\n\n", "II\n\nДом."]),
            ("Глава первая\n\nI\n\nВсе.\n", ["Глава первая\n\nI\n\nВсе.\n"]),  # one beginning
            ("Пушкин\nI\nПришёл.\n", ["Пушкин\nI\nПришёл.\n"]),  # no blank line above
            ("Да.\r\n\r\nI.\r\nНет.", ["Да.\r\n\r\n", "I.\r\nНет."]),
            ("Да.\n\nIграл", ["Да.\n\nIграл"]),  # the whole line, or none
            ("Да.\n\nII", ["Да.\n\n", "II"]),
            ("Да.\n\nГлава " + "а" * 1000, ["Да.\n\nГлава " + "а" * 1000]),
            ("", [""]),
        ],
    )
    def test_begin_documents(self, text: str, documents: list[str], tmp_path: Path):
        write_files(tmp_path, {"a.txt": text})
        assert read(tmp_path, document_heading=HEADING.pattern) == documents
        assert cut_whole(text) == documents

    def test_a_text_without_line_ends_is_handed_on_as_it_comes(self):
        chunks = split_at_headings(["a" * 900] * 3, is_heading=is_heading)
        assert [len(chunk.text) for chunk in chunks] == [1800, 900]

    def test_are_not_looked_for_in_records(self, tmp_path: Path):
        write_files(tmp_path, {"a.jsonl": '{"text": "да\\n\\nI\\n\\nнет"}\n'})
        assert read(tmp_path, document_heading="I") == ["да\n\nI\n\nнет"]

    @pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the corpus ru-classics")
    def test_cut_a_novel_into_its_chapters(self, tmp_path: Path):
        """«Отцы и дети» has 28, numbered with Roman numbers; the title page stands above."""
        novel = SHARED_CORPUS / "prose" / "Turgenev" / "Отцы и дети.txt"
        data = DataConfig(train=[str(novel)], document_heading="[IVX]+")
        (scanned,) = scan(data, cache_dir=tmp_path)
        documents = whole([*read_documents(scanned, data)])
        assert len(documents) == 29
        assert [document.split()[0] for document in documents[1::9]] == ["I", "X", "XIX", "XXVIII"]
        assert "".join(documents) == novel.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("text", "separator", "documents"),
    [
        ("a\n\nb", None, ["a\n\nb"]),
        ("a\n\nb", "\n\n", ["a", "b"]),
        ("a\n\n\n\n \n\nb\n\n", "\n\n", ["a", "", "", "b", ""]),
        ("", None, [""]),
        (" \n\t\u00a0\u3000", None, [""]),
        (" a ", None, [" a "]),
        ("a<|endoftext|>b", "<|endoftext|>", ["a", "b"]),
        ("a\r\n%\r\nb", "\r\n%\r\n", ["a", "b"]),
        ("\ufeffa", None, ["a"]),
    ],
)
def test_documents_are_what_stands_between_separators(
    text: str, separator: str | None, documents: list[str], tmp_path: Path
):
    write_files(tmp_path, {"a.txt": text})
    assert read(tmp_path, document_separator=separator) == documents


def test_a_blank_document_is_one_empty_chunk_however_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also where white space fills more than one stretch of the file."""
    text = " " * 50 + "%" + " " * 30 + "a" + " " * 30 + "%" + "\n" * 20 + "%b"
    write_files(tmp_path, {"a.txt": text})
    data = DataConfig(train=[str(tmp_path)], document_separator="%")
    (scanned,) = scan(data, cache_dir=tmp_path / ".cache")
    monkeypatch.setattr(
        "gptft.documents.read.read_chunks",
        lambda *_, **__: (text[start : start + 7] for start in range(0, len(text), 7)),
    )
    chunks = [*read_documents(scanned, data)]
    assert whole(chunks) == ["", " " * 30 + "a" + " " * 30, "", "b"]
    assert chunks[0] == Chunk("", True)
    assert all(chunk.text.strip() or chunk.text == "" or not chunk.ends for chunk in chunks)


@settings(max_examples=50, deadline=None)
@given(documents=st.lists(st.text("a \n", max_size=9), min_size=1, max_size=6), data=st.data())
def test_blanks_are_those_that_strip_to_nothing(documents: list[str], data: st.DataObject):
    fragments = []
    for document in documents:
        cut = data.draw(st.integers(0, len(document)))
        fragments += [Chunk(document[:cut], False), Chunk(document[cut:], True)]
    chunks = [*_without_blanks(fragments)]
    assert whole(chunks) == [document if document.strip() else "" for document in documents]


def test_records_are_documents_and_separators_in_them_are_text(tmp_path: Path):
    lines = '{"text": "один%два"}\n{"text": " "}\n{"text": "три"}\n'
    write_files(tmp_path, {"a.jsonl": lines, "c.csv": "text,n\nпять,5\n", "d.txt": "шесть%семь"})
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress('{"text": "четыре"}'.encode()))
    expected = ["один%два", "", "три", "четыре", "пять", "шесть", "семь"]
    assert read(tmp_path, document_separator="%") == expected


def test_line_ends_are_kept_unless_asked(tmp_path: Path):
    write_files(tmp_path, {"a.txt": "a\r\nb\rc\n"})
    assert read(tmp_path) == ["a\r\nb\rc\n"]
    assert read(tmp_path, line_ends="lf") == ["a\nb\nc\n"]


def test_codecs_are_those_of_the_scan(tmp_path: Path):
    text = "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный.\n"
    for number, codec in enumerate(["utf-8", "cp1251", "koi8-r", "utf-16"]):
        (tmp_path / f"{number}.txt").write_bytes(text.encode(codec))
    assert read(tmp_path) == [text] * 4


@pytest.mark.parametrize("change", ["grow", "replace", "remove", "touch"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_file_that_changes_after_the_scan_is_refused(change: str, when: str, tmp_path: Path):
    path = tmp_path / "a.txt"
    write_files(tmp_path, {"a.txt": "один%два"})
    data = DataConfig(train=[str(path)], document_separator="%")
    (scanned,) = scan(data, cache_dir=tmp_path / ".cache")
    documents = read_documents(scanned, data)
    if when == "meanwhile":
        next(documents)
    if change == "grow":
        with path.open("a", encoding="utf-8") as file:
            file.write("!")
    elif change == "replace":
        write_files(tmp_path, {"b.txt": "один%три"})
        os.replace(tmp_path / "b.txt", path)
    elif change == "remove":
        path.unlink()
    else:
        os.utime(path, ns=(0, 0))
    says = (
        r"a\.txt can't be read: No such" if change == "remove" else r"a\.txt changed while it was"
    )
    with pytest.raises(DataError, match=says):
        list(documents)
