"""What people have for a corpus and isn't plain text: read, or refused with the way out."""

import gzip
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.documents.corpus import find_corpus
from gptft.documents.markup import markup_notices
from gptft.documents.read import whole_documents
from gptft.documents.sources import TextInput
from gptft.errors import DataError
from gptft.text.encoding import read_text

TEXTS = ["Мороз и солнце;", "день чудесный!", "Ещё ты дремлешь"]


def documents(*names: str | Path) -> list[str]:
    data, texts, _ = find_corpus([*map(str, names)])
    return [document for text in texts for document in whole_documents(text, data)]


def saved(folder: Path, texts: list[str], *, num_shards: int = 1) -> Path:
    whole = datasets.Dataset.from_dict({"text": texts, "n": [*range(len(texts))]})
    whole.save_to_disk(folder, num_shards=num_shards)
    return folder


class TestDatasets:
    @pytest.mark.parametrize("num_shards", [1, 2, 3])
    def test_a_saved_dataset_is_read_in_order(self, tmp_path: Path, num_shards: int):
        assert documents(saved(tmp_path / "a", TEXTS, num_shards=num_shards)) == TEXTS

    def test_rows_that_were_picked_and_shuffled(self, tmp_path: Path):
        whole = datasets.Dataset.from_dict({"text": TEXTS})
        whole.select([2, 0]).save_to_disk(tmp_path / "a")
        assert documents(tmp_path / "a") == [TEXTS[2], TEXTS[0]]

    def test_of_several_splits_one_is_named(self, tmp_path: Path):
        saved(tmp_path / "a" / "train", TEXTS[:2])
        saved(tmp_path / "a" / "test", TEXTS[2:])
        (tmp_path / "a" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        for folder in (tmp_path / "a", tmp_path):
            with pytest.raises(DataError, match=r"a DatasetDict, with the splits test, train\."):
                documents(folder)
        assert documents(tmp_path / "a" / "train") == TEXTS[:2]

    def test_what_datasets_itself_writes(self, tmp_path: Path):
        one = datasets.Dataset.from_dict({"text": TEXTS})
        datasets.DatasetDict(train=one, validation=one.select([0])).save_to_disk(tmp_path / "two")
        datasets.DatasetDict(train=one).save_to_disk(tmp_path / "one")
        assert documents(tmp_path / "one") == TEXTS
        with pytest.raises(DataError, match=r"Name the one to train on, .*two/train for one"):
            documents(tmp_path / "two")

    def test_through_the_command_line(self, in_tmp: Path, tiny_model_dir: Path):
        saved(in_tmp / "a", TEXTS)
        words = ["prepare", "a", "--set", f"model.name={tiny_model_dir}", "--json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        assert answer["documents"] == len(TEXTS)
        assert answer["bytes"] == sum(len(text.encode()) for text in TEXTS)

    def test_json_that_is_no_part_of_a_saved_dataset_stays(self, tmp_path: Path):
        (tmp_path / "state.json").write_text('[{"text": "a"}]', encoding="utf-8")
        assert documents(tmp_path) == ["a"]


class TestArrow:
    @pytest.mark.parametrize("make", [pa.ipc.new_stream, pa.ipc.new_file])
    def test_both_kinds_of_file(self, tmp_path: Path, make: object):
        table = pa.table({"text": TEXTS})
        with make(tmp_path / "a.arrow", table.schema) as writer:  # type: ignore[operator]
            writer.write_table(table, max_chunksize=1)
        assert documents(tmp_path / "a.arrow") == TEXTS

    @pytest.mark.parametrize(
        "raw", [b"", b"ARROW1\0\0 and no more", b"\xff\xff\xff\xff\x10", b"x" * 99]
    )
    def test_a_broken_one_is_one_line(self, tmp_path: Path, raw: bytes):
        (tmp_path / "a.arrow").write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.arrow can't be read as Arrow") as caught:
            documents(tmp_path / "a.arrow")
        assert "\n" not in str(caught.value)

    def test_a_column_that_is_missing_or_no_text(self, tmp_path: Path):
        whole = datasets.Dataset.from_dict({"n": [1], "body": ["x"]})
        whole.save_to_disk(tmp_path / "a")
        with pytest.raises(DataError, match=r"has no field 'text', only 'n', 'body'"):
            documents(tmp_path / "a")


class TestJsonAroundTheList:
    @pytest.mark.parametrize("name", ["data", "train", "rows", "мои тексты"])
    @pytest.mark.parametrize("more", [{}, {"version": "1.1", "tags": ["a"], "info": {"n": 1}}])
    def test_the_only_list_of_an_object_is_read(
        self, tmp_path: Path, name: str, more: dict[str, object]
    ):
        value = {**more, name: [{"text": text} for text in TEXTS]}
        (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
        assert documents(tmp_path / "a.json") == TEXTS

    def test_a_record_with_a_list_in_it_stays_a_record(self, tmp_path: Path):
        value = {"text": "a", "tags": [{"text": "b"}]}
        (tmp_path / "a.json").write_text(json.dumps(value) * 2, encoding="utf-8")
        assert documents(tmp_path / "a.json") == ["a", "a"]

    def test_several_lists_are_named(self, tmp_path: Path):
        rows = [{"text": "a"}]
        path = tmp_path / "my data.json"
        path.write_text(json.dumps({"train": rows, "test": rows}), encoding="utf-8")
        with pytest.raises(
            DataError, match="an object with 2 lists of records, 'train', 'test'"
        ) as caught:
            documents(path)
        command = str(caught.value).partition("own: ")[2]
        assert shlex.split(command) == ["jq", ".train", str(path), ">", "train.json"]

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ({"data": [{"text": "a"}, {"body": "b"}]}, "record 2 of 'data' has no field 'text'"),
            (
                {"data": [{"text": "a"}, {"text": 5}]},
                "2 of 'data': the field 'text' is a number",
            ),
            ({"data": ["a", "b"]}, "has no field 'text', only 'data'"),
            ({"data": []}, "has no field 'text', only 'data'"),
            ({"data": {"text": "a"}}, "has no field 'text', only 'data'"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, value: object, said: str):
        (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            documents(tmp_path / "a.json")

    def test_objects_one_after_another_with_lists(self, tmp_path: Path):
        text = json.dumps({"data": [{"text": "a"}]}) * 2
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="has no field 'text', only 'data'"):
            documents(tmp_path / "a.json")


RTF = r"{\rtf1\ansi\ansicpg1251 {\fonttbl\f0 Times;}\f0 \'cc\'ee\'f0\'ee\'e7\par}"


class TestDocuments:
    @pytest.mark.parametrize(
        ("name", "content", "kind", "command"),
        [
            ("my text.rtf", RTF.encode(), "RTF", "pandoc -f rtf -t plain --wrap=none IN -o OUT"),
            ("a.txt", RTF.encode(), "RTF", "pandoc -f rtf"),
            ("a.pdf", b"%PDF-1.4\n1 0 obj\nendobj\n", "a PDF", "pdftotext IN OUT"),
            ("a.pdf", b"%PDF-1.4\n\xe2\xe3\xcf\xd3\0\n", "a PDF", "pdftotext IN OUT"),
            (
                "a.odt",
                b"PK\x03\x04\x14\0\x06\0",
                "a zip archive",
                "pandoc -t plain --wrap=none IN",
            ),
            ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old Office", "libreoffice"),
        ],
    )
    def test_is_refused_with_the_program_that_makes_text_of_it(
        self, tmp_path: Path, name: str, content: bytes, kind: str, command: str
    ):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (documents, read_text):
            with pytest.raises(DataError) as caught:
                read(path)
            said = str(caught.value)
            assert f"{name} is not text but {kind}" in said
            command = command.replace("IN", shlex.quote(str(path)))
            assert command.replace("OUT", shlex.quote(str(path.with_suffix(".txt")))) in said
            assert "\n" not in said

    @pytest.mark.parametrize(("suffix", "program"), [(".pdf", "pdftotext"), (".odt", "pandoc")])
    def test_a_folder_of_nothing_else(self, tmp_path: Path, suffix: str, program: str):
        for number in range(3):
            (tmp_path / f"{number}{suffix}").write_bytes(b"x")
        with pytest.raises(
            DataError, match=rf"Convert each \{suffix} to a \.txt first \({program}"
        ):
            documents(tmp_path)

    def test_a_zip_that_is_no_document(self, tmp_path: Path):
        (tmp_path / "a.zip").write_bytes(b"PK\x03\x04\x14\0\x06\0")
        with pytest.raises(DataError, match=r"a zip archive.*\. Unpack it, or leave it out"):
            documents(tmp_path / "a.zip")


FB2 = '<?xml version="1.0" encoding="UTF-8"?>\n<FictionBook xmlns="x"><p>Мороз</p></FictionBook>'
HTML = "<!DOCTYPE html>\n<html><body><p>Мороз</p></body></html>"


class TestMarkup:
    @pytest.mark.parametrize(
        ("name", "text", "kind"),
        [
            ("a.txt", FB2, "FictionBook"),
            ("a.md", HTML, "HTML"),
            ("a.txt", HTML.upper(), "HTML"),
            ("a.mht", f"<!-- saved -->\n  <html lang='ru'>{HTML}", "HTML"),
            ("a", f'<?xml version="1.0"?>{HTML}', "HTML"),
            ("a.xml", '<?xml version="1.0"?><TEI>x</TEI>', "XML"),
            ("my book", FB2, "FictionBook"),
        ],
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
    def test_is_said(self, tmp_path: Path, name: str, text: str, kind: str, encoding: str):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        (said,) = markup_notices([TextInput(str(path), path, 0)])
        assert said.startswith(f"{path} is {kind}: the tags are text, too")
        ending = {"FictionBook": "end its name in .fb2", "HTML": "end its name in .html"}.get(kind)
        assert said.endswith(ending or "such as by the program that it comes from")

    @pytest.mark.parametrize(
        "text",
        [
            "Мороз и солнце",
            "<p>Мороз</p>",
            "В HTML пишут <!DOCTYPE html> в начале.",
            "<3 <html",
            "",
        ],
    )
    def test_is_not_said_of_text(self, tmp_path: Path, text: str):
        path = tmp_path / "a.txt"
        path.write_text(text, encoding="utf-8")
        assert markup_notices([TextInput("a", path, 0)]) == []

    def test_of_many_the_first_is_named_and_records_are_left_alone(self, tmp_path: Path):
        for name in ("a.txt", "b.txt", "c.jsonl", "e.html"):
            (tmp_path / name).write_text(HTML, encoding="utf-8")
        with gzip.open(tmp_path / "d.txt.gz", "wb") as packed:
            packed.write(HTML.encode())
        paths = sorted(tmp_path.iterdir())
        texts = [TextInput(str(path), path, 0) for path in (*paths, tmp_path / "gone.txt")]
        (said,) = markup_notices(texts)
        assert said.startswith(f"{tmp_path / 'a.txt'} and 2 more files are HTML: ")

    @pytest.mark.parametrize("command", ["prepare", "config check"])
    def test_through_the_command_line(self, in_tmp: Path, tiny_model_dir: Path, command: str):
        Path("a.txt").write_text(FB2, encoding="utf-8")
        words = [*command.split(), "a.txt", "--set", f"model.name={tiny_model_dir}"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("a.txt is FictionBook: the tags are text, too") == 1


def test_datasets_stays_unloaded(tmp_path: Path):
    folder = saved(tmp_path / "a", TEXTS)
    script = (
        "import sys\nfrom gptft.documents.corpus import find_corpus\n"
        "from gptft.documents.read import whole_documents\n"
        "data, texts, _ = find_corpus([sys.argv[1]])\n"
        "print(sum(1 for t in texts for _ in whole_documents(t, data)))\n"
        "print('datasets' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    assert done.stdout.split() == ["3", "False", "False"]
