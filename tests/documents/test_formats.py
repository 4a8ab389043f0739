import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptft.documents.formats import parquet, plain_text
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.registry import FORMATS, SUFFIXES, format_of, suffix_of
from gptft.documents.records import RecordText
from gptft.errors import DataError
from tests.conftest import ROOT

TEXT = RecordText()
LINE_SEPARATOR, NEXT_LINE = "\u2028", "\x85"


def cut(text: str, size: int | None) -> Iterator[str]:
    size = size or max(len(text), 1)
    return (text[at : at + size] for at in range(0, len(text), size))


def read_records(
    chunks: Iterator[str], *, suffix: str, name: str, reader: RecordText
) -> Iterator[str]:
    path = Path(f"a{suffix}")
    read = format_of(path).read_records
    assert read is not None
    return read(OpenedFile(name, path, chunks), reader)


def read_parquet(path: Path, *, reader: RecordText) -> Iterator[str]:
    return parquet.read_parquet(OpenedFile(str(path), path, iter(())), reader)


def texts(
    text: str, suffix: str, *, size: int | None = None, reader: RecordText = TEXT
) -> list[str]:
    chunks = cut(text, size)
    return list(read_records(chunks, suffix=suffix, name=f"a{suffix}", reader=reader))


@pytest.fixture(params=[1, 2, 7, None], ids=["1", "2", "7", "whole"])
def size(request: pytest.FixtureRequest) -> int | None:
    """How many characters come at a time: nothing may depend on it."""
    return request.param


def refused(text: str, suffix: str, *, size: int | None, **options: RecordText) -> str:
    with pytest.raises(DataError) as caught:
        texts(text, suffix, size=size, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_suffixes():
    today = {".txt", ".md", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"}
    assert {*SUFFIXES} >= today
    assert [*SUFFIXES] == [suffix for format in FORMATS for suffix in format.suffixes]  # none twice
    assert [format for format in FORMATS if format.read_records is None] == [plain_text.FORMAT]
    assert plain_text.FORMAT.suffixes == (".txt", ".md")
    assert format_of(Path("a.Parquet")).is_binary
    assert format_of(Path("poem")) is format_of(Path("a.xyz.gz")) is plain_text.FORMAT


def test_the_docs_have_the_table():
    rows = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8").splitlines()
    at = rows.index("| | a document is |") + 2
    for format, row in zip(FORMATS, rows[at:], strict=False):
        names = [f"`{suffix}`" for suffix in format.suffixes]
        names += ["any other name"] if format is plain_text.FORMAT else []
        assert row == f"| {', '.join(names)} | {format.document} |"


class TestRecordText:
    def test_a_template_puts_fields_together_and_doubled_braces_are_braces(self):
        reader = RecordText(template="{{{title}}}: {a.b}, {title}{{}}")
        assert reader.fields == ("title", "a.b")
        assert reader.of({"title": "Зима", "a.b": "{x}"}, "f:1") == "{Зима}: {x}, Зима{}"

    def test_without_one_it_is_the_field(self):
        assert RecordText("body").fields == ("body",)
        assert RecordText("body").of({"body": "", "text": "x"}, "f:1") == ""

    def test_a_missing_field_names_five_of_those_there_and_both_settings(self):
        with pytest.raises(DataError) as caught:
            RecordText("body").of(dict.fromkeys("abcdefg", "x"), "f.jsonl:3")
        assert str(caught.value) == (
            "f.jsonl:3 has no field 'body', only 'a', 'b', 'c', 'd', 'e' and 2 more. Name the "
            "field that holds the text in data.text_field, or put "
            "several together with data.template."
        )

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (None, "is null"),
            (7, "is a number (7), not text"),
            (0.5, "is a number (0.5), not text"),
            (True, "is true or false (True), not text"),
            (["a"], "is a list (['a']), not text"),
            ({"a": 1}, "is an object ({'a': 1}), not text"),
            (b"a", "is of type bytes (b'a'), not text"),
        ],
    )
    def test_what_is_not_text_is_said_and_not_converted(self, value: object, said: str):
        for reader in (TEXT, RecordText(template="{text}")):
            with pytest.raises(DataError, match="f:2: the field 'text'") as caught:
                reader.of({"text": value}, "f:2")
            assert said in str(caught.value)

    def test_a_long_value_is_shown_shortened(self):
        with pytest.raises(DataError) as caught:
            TEXT.of({"text": ["я" * 1000] * 1000}, "f:2")
        assert len(str(caught.value)) < 500


class TestJsonLines:
    def test_lines_end_at_lf_only_and_blank_ones_are_skipped(self, size: int | None):
        odd = f"a{LINE_SEPARATOR}b{NEXT_LINE}c"
        text = f'\n{{"text": "{odd}", "n": NaN}}\r\n  \r\n{{"text": ""}}\n\n{{"text": "last"}}'
        assert texts(text, ".jsonl", size=size) == [odd, "", "last"]
        assert texts(text, ".ndjson", size=size) == [odd, "", "last"]

    def test_an_empty_file_has_no_records(self, size: int | None):
        assert texts("", ".jsonl", size=size) == texts("\n \n", ".jsonl", size=size) == []

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"text": "a"', "a.jsonl:3: not JSON (column 13: Expecting ',' delimiter). Each line"),
            ('{"text": "a"} {}', "a.jsonl:3: not JSON (column 15: Extra data)."),
            ('{"text": "a\tb"}', "a.jsonl:3: not JSON (column 12: Invalid control character at)."),
            ('{"text": "a"}\r{}', "data.line_ends: lf"),
            ('["a"]', "a.jsonl:3 is a list (['a']), not an object. Each line must be one JSON"),
            ('"a"', "a.jsonl:3 is a string ('a'), not an object."),
            ("null", "a.jsonl:3 is null (None), not an object."),
            ('{"text": ' + "[" * 100_000, "a.jsonl:3: JSON nested too deeply"),
            ('{"text": ' + "1" * 5000 + "}", "a.jsonl:3: a number too long"),
            (
                '{"text": "ab\\ud800"}',
                "a.jsonl:3: the field 'text' holds half a character, \\ud800",
            ),
            ('{"text": null}', "a.jsonl:3: the field 'text' is null."),
            ('{"text": 7}', "a.jsonl:3: the field 'text' is a number (7), not text."),
            ('{"body": "a"}', "a.jsonl:3 has no field 'text', only 'body'."),
            ("{}", "a.jsonl:3 has no field 'text', only none at all."),
        ],
    )
    def test_a_bad_line_is_named(self, line: str, said: str):
        for size in (7, None):
            assert said in refused(f'{{"text": "a"}}\n\n{line}\n', ".jsonl", size=size)

    def test_an_array_is_sent_to_json(self, size: int | None):
        assert "name it .json" in refused('[\n{"text": "a"}\n]\n', ".jsonl", size=size)

    def test_a_pair_of_surrogates_is_one_character(self):
        assert texts('{"text": "\\ud83d\\ude00"}', ".jsonl") == ["😀"]

    def test_records_come_before_the_file_is_read_on(self):
        read = []

        def chunks() -> Iterator[str]:
            for number in range(1000):
                read.append(number)
                yield f'{{"text": "{number}"}}\n'

        found = read_records(chunks(), suffix=".jsonl", name="a", reader=TEXT)
        assert [next(found), next(found)] == ["0", "1"]
        assert len(read) <= 3

    @given(
        values=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
        size=st.integers(1, 30),
        ascii_only=st.booleans(),
    )
    def test_whatever_is_written_is_read(self, values: list[str], size: int, ascii_only: bool):
        lines = [json.dumps({"text": value}, ensure_ascii=ascii_only) for value in values]
        assert texts("\n".join(lines), ".jsonl", size=size) == values
        assert texts("\n".join(lines), ".json", size=size) == values
        assert texts(f"[{','.join(lines)}]", ".json", size=size) == values


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            '[{"text": "а"}, {"text": "б]}"}]',
            '\n [\r\n  {\n    "text": "а"\n  },\n  {"n": [1, {}], "text": "б]}"}\n]\n\n',
            '{"text": "а"}\n{"text": "б]}"}\n',
            '{\n  "text": "а"\n}\n{\n  "text": "б]}"\n}',
            '{"text": "а"}{"text": "б]}"}',
        ],
    )
    def test_an_array_and_a_sequence_of_objects(self, text: str, size: int | None):
        assert texts(text, ".json", size=size) == ["а", "б]}"]

    def test_a_single_object_is_a_record_and_nothing_is_none(self, size: int | None):
        assert texts('{"text": "a"}', ".json", size=size) == ["a"]
        assert texts("", ".json", size=size) == texts(" \n[ ]\n", ".json", size=size) == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                '[\n{"text": "a"}\n{"text": "b"}]',
                "a.json:3: '{' after an object of the array, where",
            ),
            ('[\n{"text": "a"},\n]', "a.json:3: a comma before the array's end."),
            ('[{"text": "a"}]\n{}', "a.json:2: '{' after the array's end."),
            (
                '\n[\n{"text": "a"}',
                "a.json:3: the file ends inside the array that begins at a.json:2",
            ),
            ('[\n{"text": "a"},\n', "a.json:3: the file ends inside the array"),
            ("[", "a.json:1: the file ends inside the array"),
            (
                '[\n{"text": "a", "b": [1, 2',
                "a.json:2: not JSON (column 25: Expecting ',' delimiter)",
            ),
            ('[\n{"text": "ab', "a.json:2: not JSON (column 10: Unterminated string starting at)"),
            ('{"text": "a"}\n,{"text": "b"}', "a.json:2: ',' where a record must begin with {."),
            ("[\n1]", "a.json:2: '1' where a record must begin with {."),
            ('"text"', "a.json:1: '\"' where a record must begin"),
            ('{"text": "a"}\nrest', "a.json:2: 'r' where a record must begin"),
            (
                '{"text": ["a", "b"]}',
                "a.json:1: the field 'text' is a list (['a', 'b']), not text.",
            ),
            ('[\n\n{"text": "a"},\n{"body": "b"}]', "a.json:4 has no field 'text', only 'body'."),
            ('[{"text": "a"},\n{"text": tru}]', "a.json:2: not JSON (column 10: Expecting value)"),
            ('{"text": ' + "[" * 100_000, "a.json:1: JSON nested too deeply"),
            ('{"text":\n ' + "1" * 5000 + "}", "a.json:1: a number too long"),
            ('[{"text": "\\udc00"}]', "a.json:1: the field 'text' holds half a character, \\udc00"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, text: str, said: str):
        for size in (1, 2, 7, None) if len(text) < 100 else (None,):
            assert said in refused(text, ".json", size=size)

    def test_a_mistake_is_told_before_the_rest_is_read(self):
        def chunks() -> Iterator[str]:
            yield '[{"text": "a"},\n{"text" "b"},' + " " * 100
            raise AssertionError

        found = read_records(chunks(), suffix=".json", name="a", reader=TEXT)
        assert next(found) == "a"
        with pytest.raises(DataError, match=r"a:2: not JSON \(column 9: Expecting ':' delimiter\)"):
            next(found)

    def test_a_long_record_in_many_chunks_is_not_parsed_again_for_each(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        decoder = json.JSONDecoder
        tried = []

        class Counting(decoder):  # type: ignore[misc, valid-type]
            def raw_decode(self, text: str, at: int = 0) -> object:
                tried.append(len(text) - at)
                return super().raw_decode(text, at)

        monkeypatch.setattr(json, "JSONDecoder", Counting)
        long = "я" * 100_000
        assert texts(f'[{{"text": "{long}"}}]', ".json", size=10) == [long]
        assert len(tried) < 20
        assert sum(tried) < 4 * len(long)


class TestCells:
    def test_a_cell_is_its_text_whatever_it_looks_like(self, size: int | None):
        text = 'id,text\n007,NA\n1,007\n\n2,"a ""b"",\r\nc\n"\n3,\n4,null'
        assert texts(text, ".csv", size=size) == ["NA", "007", 'a "b",\r\nc\n', "", "null"]
        ids = texts(text, ".csv", size=size, reader=RecordText("id"))
        assert ids == ["007", "1", "2", "3", "4"]

    def test_tsv_and_crlf_and_a_template(self, size: int | None):
        text = f"a\tb\r\n1, 2\tx{LINE_SEPARATOR}y\r\n\r\n3\t4\r\n"
        reader = RecordText(template="{b}-{a}")
        found = texts(text, ".tsv", size=size, reader=reader)
        assert found == [f"x{LINE_SEPARATOR}y-1, 2", "4-3"]

    def test_an_empty_file_and_a_header_alone(self, size: int | None):
        assert texts("", ".csv", size=size) == texts("\n\ntext\n", ".csv", size=size) == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("id,body\n1,a\n", "a.csv:1: the header has no field 'text', only 'id', 'body'."),
            ("text,id,text\na,1,b\n", "a.csv:1: the header names 'text' 2 times."),
            ("text,id\na,1\nb\n", "a.csv:3: 1 cell where the header has 2."),
            ('text,id\n"a\n",1\n\nb, c,2\n', "a.csv:5: 3 cells where the header has 2."),
            ('text,id\na,1\n"b\nc\n,2\n', "a.csv:3: a quote opened in the record that begins here"),
            ('text,id\n"b\nc"d,2\n', "a.csv:2: text after a closing quote in line 3 of the record"),
            (
                "text,id\ra,1\rb,2\r",
                "a.csv:1: a line that ends in CR alone. Set data.line_ends: lf.",
            ),
            ("text,id\na,1\rb,2\n", "a.csv:2: a line that ends in CR alone."),
            ("id;text\n1;a\n", "a.csv:1: the header is one cell, 'id;text'. Its cells seem to be"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, text: str, said: str, size: int | None):
        assert said in refused(text, ".csv", size=size)

    def test_a_name_twice_that_is_not_needed_is_no_matter(self):
        assert texts("x,x,text\n1,2,a\n", ".csv") == ["a"]

    def test_a_cell_may_be_longer_than_csv_takes_by_itself(self):
        before = csv.field_size_limit(131_072)
        try:
            assert [len(cell) for cell in texts(f"text\n{'я' * 200_000}\n", ".csv")] == [200_000]
        finally:
            csv.field_size_limit(before)

    def test_records_come_before_the_file_is_read_on(self):
        chunks = iter(["text\na\nb\n", "c\n", "d\n"])
        found = read_records(chunks, suffix=".csv", name="a", reader=TEXT)
        assert next(found) == "a"
        assert next(chunks) == "c\n"


class TestParquet:
    @pytest.mark.parametrize(
        "kind",
        [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
        ids=str,
    )
    def test_every_kind_of_text_over_several_batches(self, tmp_path: Path, kind: pa.DataType):
        values = [f"стих {number % 50}" for number in range(2500)]
        column = pa.array(values).cast(kind)
        pq.write_table(pa.table({"n": range(2500), "text": column}), tmp_path / "a.parquet")
        assert list(read_parquet(tmp_path / "a.parquet", reader=TEXT)) == values

    def test_a_template(self, tmp_path: Path):
        pq.write_table(pa.table({"b": ["1", "2"], "a": ["x", "y"]}), tmp_path / "a.parquet")
        reader = RecordText(template="{a}{b}")
        assert list(read_parquet(tmp_path / "a.parquet", reader=reader)) == ["x1", "y2"]

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            (pa.table({"body": ["a"], "n": [1]}), "has no field 'text', only 'body', 'n'."),
            (pa.table({"text": [1]}), "the column 'text' is of type int64, not string."),
            (pa.table({"text": [["a"]]}), "the column 'text' is of type list<"),
            (pa.table({"text": [b"a"]}), "the column 'text' is of type binary, not string."),
            (pa.table({"text": ["a"] * 1500 + [None]}), "row 1,501: the field 'text' is null."),
            (pa.table({"text": pa.nulls(2)}), "row 1: the field 'text' is null."),
            (pa.table([["a"], ["b"]], names=["text", "text"]), "2 columns named 'text'."),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, table: pa.Table, said: str):
        path = tmp_path / "a.parquet"
        pq.write_table(table, path)
        with pytest.raises(DataError) as caught:
            list(read_parquet(path, reader=TEXT))
        assert str(path) in str(caught.value)
        assert said in str(caught.value)

    def test_text_that_is_not_utf_8(self, tmp_path: Path):
        bad = pa.array([b"a", b"\xff"]).view(pa.string())
        pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
        with pytest.raises(DataError, match="a text in rows 1 to 2 isn't UTF-8"):
            list(read_parquet(tmp_path / "a.parquet", reader=TEXT))

    def test_a_broken_and_a_missing_file(self, tmp_path: Path):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"text": ["a" * 100] * 100}), path)
        whole = path.read_bytes()
        for content in (whole[:-20], b"", b"PAR1 no PAR1"):
            path.write_bytes(content)
            with pytest.raises(DataError, match=r"a\.parquet can't be read as Parquet"):
                list(read_parquet(path, reader=TEXT))
        with pytest.raises(DataError, match=r"b\.parquet can't be read as Parquet"):
            list(read_parquet(tmp_path / "b.parquet", reader=TEXT))

    def test_a_row_group_is_not_held_whole(self, tmp_path: Path):
        path = tmp_path / "a.parquet"
        rows = [f"{number:08d}" * 500 for number in range(5000)]  # 20 MB in one row group
        pq.write_table(pa.table({"text": rows}), path, compression="none", use_dictionary=False)
        del rows
        pa.default_memory_pool().release_unused()
        before = pa.total_allocated_bytes()
        most = max(pa.total_allocated_bytes() - before for _ in read_parquet(path, reader=TEXT))
        assert path.stat().st_size > 19e6
        assert most < 12e6


def test_records_are_read_without_pyarrow_and_pandas():
    code = (
        "import sys; from pathlib import Path;"
        "from gptft.documents.formats.delimited import read_rows;"
        "from gptft.documents.formats.format import OpenedFile;"
        "from gptft.documents.records import RecordText;"
        "list(read_rows(OpenedFile('a', Path('a.csv'), iter(['text\\na'])), RecordText()));"
        "print({'pyarrow', 'pandas', 'datasets', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "name",
    [
        "a.txt", "A.TXT", "a.b.txt", "a.txt.gz", "a.JSONL.Gz", "a.gz", ".txt", ".txt.gz", "a.", "a",
        "a..txt", "..txt", "a.fb2", "a.fb2.zip", "a.FB2.ZIP", "a.zip", ".fb2.zip", "a.fb2.zip.gz",
        "a.tar.gz.zst", "1.2.3", "дом.txt", "a.\udcff", "a b.c d.txt", "x.zst",
    ],
)  # fmt: skip
def test_a_suffix_is_that_of_pathlib_compression_aside(name: str):
    path = Path("in.folder") / name
    inner = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    two = inner.name.lower().endswith(".fb2.zip") and inner.suffix
    expected = ".fb2.zip" if two else inner.suffix.lower()
    assert suffix_of(path) == expected
    assert suffix_of(Path(f"another{name}")) == suffix_of(path) or name.startswith(".")
