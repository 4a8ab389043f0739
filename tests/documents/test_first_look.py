"""How many documents there are, and whether records have their fields, before packing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptft.config.data import DataConfig
from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.documents import first_look
from gptft.documents.first_look import DocumentCounts, look_at_texts
from gptft.documents.formats import registry
from gptft.documents.formats.format import Format, OpenedFile
from gptft.documents.records import RecordText
from gptft.documents.sources import find_texts
from gptft.errors import DataError


def look(cache_dir: Path, **section: Any) -> DocumentCounts | None:
    data = DataConfig.model_validate(section)
    return look_at_texts(find_texts(data), data, cache_dir=cache_dir)


@pytest.fixture
def poems(tmp_path: Path) -> Path:
    """Five poems and two blank documents in one file."""
    path = tmp_path / "poems.txt"
    path.write_text("\n---\n".join(["а", "б", " ", "в", "", "г", "д"]), encoding="utf-8")
    return path


def test_documents_of_a_file_are_counted_and_a_share_of_them_held_out(poems: Path, tmp_path: Path):
    section = {"train": str(poems), "document_separator": "\n---\n"}
    assert look(tmp_path, **section) == DocumentCounts(5, 0)
    assert look(tmp_path, **section, validation=0.4) == DocumentCounts(3, 2)
    assert look(tmp_path, **section, validation=0.01) == DocumentCounts(4, 1)
    with pytest.raises(DataError, match="needs at least 2 documents"):
        look(tmp_path, train=str(poems), validation=0.4)


def test_files_held_out_by_name_are_counted_and_must_hold_text(poems: Path, tmp_path: Path):
    (tmp_path / "held_out.txt").write_text("Буря мглою", encoding="utf-8")
    (tmp_path / "blank.txt").write_text(" \n", encoding="utf-8")
    held_out = str(tmp_path / "held_out.txt")
    assert look(tmp_path, train=str(poems), validation=[held_out]) == DocumentCounts(1, 1)
    with pytest.raises(DataError, match=r"data\.validation: no text in any of its files"):
        look(tmp_path, train=str(poems), validation=[str(tmp_path / "blank.txt")])
    with pytest.raises(DataError, match=r"blank\.txt: 1 file, and no text in it"):
        look(tmp_path, train=str(tmp_path / "blank.txt"))


ASKED = {"role": "user", "content": "Кто?"}
ANSWERED = {"role": "assistant", "content": "Пушкин."}


def _chats(path: Path, *chats: Any) -> str:
    path.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats), encoding="utf-8")
    return str(path)


def test_conversations_count_by_what_is_learned_of_them(tmp_path: Path):
    blank = {"role": "assistant", "content": " "}
    train = _chats(tmp_path / "a.jsonl", [ASKED, ANSWERED], [ASKED], [blank], [ANSWERED])
    section = {"train": train, "format": "messages"}
    assert look(tmp_path, **section) == DocumentCounts(3, 0)
    assert look(tmp_path, **section, validation=0.4) == DocumentCounts(2, 1)
    assert look(tmp_path, **section, loss_on="all") == DocumentCounts(4, 0)


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        (
            [[ASKED]],
            None,
            r"train\.jsonl: there is no conversation with an answer",
        ),
        ([[ASKED], [{"role": "system", "content": "x"}]], 0.5, r"train\.jsonl: there is no conv"),
        (
            [[ASKED, ANSWERED], [ASKED]],
            0.5,
            r"2 conversations to learn from, and .* has 1\.",
        ),
        ([[ASKED, ANSWERED]], [[ASKED]], r"data\.validation: there is no conversation with an a"),
    ],
)
def test_conversations_without_answers_are_named_before_and_while_preparing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any, validation: Any, said: str
):
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    if isinstance(validation, list):
        validation = [_chats(tmp_path / "held-out.jsonl", *validation)]
    data = {"train": _chats(tmp_path / "train.jsonl", *train), "validation": validation}
    with pytest.raises(DataError, match=said):
        look(tmp_path, **data, format="messages")
    with pytest.raises(DataError, match=said):
        prepare_blocks(plan_packing(Config.model_validate({"data": data})))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_of_a_large_corpus_only_first_records_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, encoding: str
):
    monkeypatch.setattr(first_look, "_READ_THROUGH", 5)
    path = tmp_path / f"large{suffix}"
    first = "body\nЗима\n" if suffix == ".csv" else json.dumps({"body": "Зима"}) + "\n"
    path.write_text(first + "{a broken second record\n", encoding=encoding)
    assert look(tmp_path, train=str(path), text_field="body") is None
    with pytest.raises(DataError, match="'text'"):
        look(tmp_path, train=str(path))


def test_a_large_file_in_another_encoding_is_left_for_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(first_look, "_READ_THROUGH", 5)
    path = tmp_path / "large.csv"
    path.write_text("тело\nЗима\n", encoding="cp1251")
    assert look(tmp_path, train=str(path)) is None
    (tmp_path / "large.txt").write_text("Зима " * 10, encoding="utf-8")
    assert look(tmp_path, train=str(tmp_path / "large.txt")) is None


def _whole_only(file: OpenedFile, record_text: RecordText) -> Iterator[str]:
    """A format whose records can't be told before its file ends."""
    text = "".join(file.chunks)
    if not text.endswith("</texts>\n"):
        raise DataError(f"{file.name} is cut off.")
    yield record_text.of({"body": text}, file.name)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".txts", "<texts>\nЗима\n\nСнег\n</texts>\n"),
        (".json", '[\n{\n"body": "Зима",\n"n": [1,\n2,\n3]\n}\n]\n'),
        (".csv", 'body,n\n"Зима\n\nСнег\n",1\n'),
        (".jsonl", '{"body": "Зима"}\n'),
    ],
)
def test_where_the_beginning_is_cut_off_is_never_taken_for_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, content: str
):
    monkeypatch.setattr(first_look, "_READ_THROUGH", 5)
    monkeypatch.setitem(registry._BY_SUFFIX, ".txts", Format((".txts",), "", _whole_only))
    path = tmp_path / f"large{suffix}"
    path.write_text(content, encoding="utf-8")
    size = path.stat().st_size
    for beginning in range(1, size + 1):
        monkeypatch.setattr(first_look, "_BEGINNING", beginning)
        assert look(tmp_path, train=str(path), text_field="body") is None
    with pytest.raises(DataError, match="'text'"):  # the whole file is looked at
        look(tmp_path, train=str(path))


def test_the_first_object_of_a_large_array_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(first_look, "_READ_THROUGH", 5)
    monkeypatch.setattr(first_look, "_BEGINNING", 30)
    path = tmp_path / "large.json"
    path.write_text('[{"body": "Зима"},' + " " * 100 + "broken", encoding="utf-8")
    assert look(tmp_path, train=str(path), text_field="body") is None
    with pytest.raises(DataError, match="'text'"):
        look(tmp_path, train=str(path))
