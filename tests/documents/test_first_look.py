"""How many documents there are, and whether records have their fields, before packing."""

import json
from pathlib import Path
from typing import Any

import pytest

from gptft.config.sections import DataConfig
from gptft.documents import first_look
from gptft.documents.first_look import DocumentCounts, look_at_texts
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
