import gzip
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gptft.config.data import DataConfig
from gptft.documents import scan as module
from gptft.documents.read import read_documents
from gptft.documents.scan import ScannedText, scan_texts
from gptft.documents.sources import find_texts
from gptft.errors import DataError
from gptft.text.encoding import FileFacts, examine_text
from tests.documents.reference import scan, write_files

HOUR = 3_600_000_000_000


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    names: list[str] = []

    def noted(path: Path, **given: Any) -> FileFacts:
        names.append(path.name)
        return examine_text(path, **given)

    monkeypatch.setattr(module, "examine_text", noted)
    return names


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that a test has just written are long settled."""
    now = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: now() + HOUR)


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., list[ScannedText]]:
    """Scan three files, with the same memory each time."""
    write_files(tmp_path / "in", {"a.txt": "раз", "b.txt": "два\r\n", "c.txt": "три"})

    def scan_again(**settings: object) -> list[ScannedText]:
        data = DataConfig.model_validate({"train": [str(tmp_path / "in")], **settings})
        return scan(data, cache_dir=tmp_path / "cache")

    return scan_again


def test_facts_are_those_of_the_bytes(again: Callable[..., list[ScannedText]]):
    first, second, _ = again()
    assert first.facts == FileFacts(sha256("раз".encode()).hexdigest(), 6, "utf-8", 0)
    assert second.facts == FileFacts(sha256("два\r\n".encode()).hexdigest(), 8, "utf-8", 1)


@pytest.mark.usefixtures("an_hour_later")
def test_no_file_is_read_twice(again: Callable[..., list[ScannedText]], examined: list[str]):
    first = again()
    assert examined == ["a.txt", "b.txt", "c.txt"]
    assert again() == first
    assert len(examined) == 3
    again(encoding="utf-8")  # may give other facts
    assert len(examined) == 6
    again()
    assert len(examined) == 6


@pytest.mark.usefixtures("an_hour_later")
def test_a_changed_file_is_read_again_and_no_other(
    again: Callable[..., list[ScannedText]], examined: list[str], tmp_path: Path
):
    again()
    status = (tmp_path / "in" / "b.txt").stat()
    write_files(tmp_path / "in", {"b.txt": "дед\r\n"})  # as long as before, and
    os.utime(tmp_path / "in" / "b.txt", ns=(status.st_atime_ns, status.st_mtime_ns))  # as old
    scanned = again()
    assert examined[3:] == ["b.txt"]
    assert scanned[1].facts.digest == sha256("дед\r\n".encode()).hexdigest()
    again()
    assert len(examined) == 4


@pytest.mark.usefixtures("an_hour_later")
def test_a_file_more_is_another_scan(
    again: Callable[..., list[ScannedText]], examined: list[str], tmp_path: Path
):
    again()
    write_files(tmp_path / "in", {"d.txt": "четыре"})
    assert len(again()) == 4
    again()
    assert len(examined) == 7


def test_what_was_written_in_the_last_two_seconds_is_not_trusted(
    again: Callable[..., list[ScannedText]], examined: list[str], monkeypatch: pytest.MonkeyPatch
):
    again()
    again()
    assert len(examined) == 6
    now = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: now() + 3_000_000_000)
    again()
    assert len(examined) == 9
    again()
    assert len(examined) == 9


def test_an_old_time_stamp_on_a_new_file_is_not_trusted(
    again: Callable[..., list[ScannedText]], examined: list[str], tmp_path: Path
):
    """What `cp -p` or `touch -d` writes may still be written to."""
    for path in (tmp_path / "in").iterdir():
        os.utime(path, ns=(0, 0))
    again()
    again()
    assert len(examined) == 6


@pytest.mark.usefixtures("an_hour_later")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"5",
        b"{}",
        b'"abc"',
        b"[]",
        b"[null, null]",
        b"[1, 2, 3]",
        b'["a", "b", "c"]',
        b"[{}, {}, {}]",
        b'[{"stamp": null, "facts": {}}, null, null]',
        b'[{"stamp": [1, 2], "facts": {}}, null, null]',
        b'[{"stamp": [[], 2, 3, 4], "facts": {"digest": "", "num_bytes": 0, "encoding": "utf-8", '
        b'"crlf": 0}}, null, null]',
        b'[{"stamp": [1, 2, 3, 4], "facts": {"sha1": ""}}, null, null]',
        b"[[], [], []]",
        b"[[1, 2, 3, 4], null, null]",
        b'[[1, 2, 3, 4, "", 0, "utf-8", 0, {}, 5], null, null]',
        b'[[[], 2, 3, 4, "", 0, "utf-8", 0, {}], null, null]',
        b'[[1, 2, 3, 4, "", 0, "utf-8", 0, {}], null, null]',
    ],
)
def test_a_corrupt_memory_is_none(
    again: Callable[..., list[ScannedText]], examined: list[str], tmp_path: Path, content: bytes
):
    first = again()
    (memory,) = (tmp_path / "cache" / "scans").iterdir()
    good = json.loads(memory.read_bytes())
    memory.write_bytes(content)
    assert again() == first
    assert len(examined) == 6
    assert json.loads(memory.read_bytes()) == good


@pytest.mark.usefixtures("an_hour_later")
def test_a_cache_that_cannot_be_written_is_no_harm(
    again: Callable[..., list[ScannedText]], tmp_path: Path
):
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    assert len(again()) == 3


@pytest.mark.usefixtures("an_hour_later")
def test_nothing_but_memories_is_left_in_the_cache(
    again: Callable[..., list[ScannedText]], tmp_path: Path
):
    again()
    again(encoding="utf-8")
    names = sorted(path.suffix for path in (tmp_path / "cache" / "scans").iterdir())
    assert names == [".json", ".json"]


def test_all_bad_files_are_named_at_once_the_rest_counted(tmp_path: Path):
    for number in range(8):
        (tmp_path / f"{number}.txt").write_bytes(b"text\0")
    write_files(tmp_path, {"good.txt": "текст"})
    with pytest.raises(DataError) as caught:
        scan(DataConfig(train=[str(tmp_path)]), cache_dir=tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert [number for number in range(5) if f"{number}.txt" in lines[number]] == [0, 1, 2, 3, 4]
    assert lines[5:] == [
        "... and 3 more files that can't be read.",
        "data.exclude leaves files out by name.",
    ]
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path):
    write_files(tmp_path, {"a.txt": "текст"})
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match=r"a\.txt can't be read: Permission denied"):
        scan(DataConfig(train=[str(tmp_path)]), cache_dir=tmp_path / "cache")


def test_a_file_that_goes_before_it_is_scanned_is_named(
    again: Callable[..., list[ScannedText]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def gone(path: Path, **given: Any) -> FileFacts:
        (tmp_path / "in" / "b.txt").unlink(missing_ok=True)
        return examine_text(path, **given)

    monkeypatch.setattr(module, "examine_text", gone)
    with pytest.raises(DataError, match=r"b\.txt can't be read: No such file"):
        again()


def test_rows_are_what_json_gives_back(again: Callable[..., list[ScannedText]]):
    for scanned in again():
        row = scanned.as_row()
        assert json.loads(json.dumps(row)) == row
        assert ScannedText.from_row(scanned.source, row) == scanned


def test_progress_counts_bytes(tmp_path: Path):
    write_files(tmp_path / "in", {"a.txt": "раз", "b.txt": "четыре"})
    data = DataConfig(train=[str(tmp_path / "in")])
    told: list[tuple[str, int, int]] = []
    scan_texts(
        find_texts(data).texts,
        data,
        cache_dir=tmp_path,
        progress=lambda *now: told.append(now),
    )
    assert told == [("reading", 6, 18), ("reading", 18, 18)]


SMALL_TEXTS = {
    "plain": "Мороз и солнце\n".encode(),
    "empty": b"",
    "blank": b" \n\t\r\n",
    "CR LF": b"a\r\nb\r\n",
    "CR": b"a\rb",
    "a mark": b"\xef\xbb\xbf" + "да".encode(),
    "a mark within": "да\ufeffнет".encode(),
    "UTF-16": "Мороз и солнце".encode("utf-16"),
    "cp1251": ("Мороз и солнце; день чудесный! " * 9).encode("cp1251"),
    "NUL": b"a\0b",
    "RTF": b"{\\rtf1 abc}",
    "PDF": b"%PDF-1.4 abc",
    "cut within a character": "да".encode()[:-1],
    "a small one": b"a" * 16_383 + b"\n",
    "one too large": b"a" * 16_384 + b"\n",
}


@pytest.mark.parametrize("line_ends", ["keep", "lf"])
@pytest.mark.parametrize("separator", [None, "и"])
@pytest.mark.parametrize("encoding", ["auto", "utf-8", "cp1251"])
@pytest.mark.parametrize("name", SMALL_TEXTS)
def test_what_is_kept_of_a_small_file_is_what_reading_it_again_gives(
    name: str,
    encoding: str,
    separator: str | None,
    line_ends: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "a.txt").write_bytes(SMALL_TEXTS[name])
    given = {"encoding": encoding, "document_separator": separator, "line_ends": line_ends}
    data = DataConfig.model_validate({"train": str(tmp_path / "a.txt"), **given})

    def found(cache: str) -> object:
        try:
            (text,) = scan(data, cache_dir=tmp_path / cache)
            return text.facts, [*read_documents(text, data)], text.content is not None
        except DataError as error:
            return str(error)

    kept = found("kept")
    monkeypatch.setattr(module, "_KEPT", 0)
    again = found("again")
    if isinstance(kept, tuple) and isinstance(again, tuple):
        assert kept[:2] == again[:2]
        assert not again[2]
        odd = ("a mark", "UTF-16", "cp1251", "one too large", "cut within a character")
        assert kept[2] == (name not in odd and encoding != "cp1251")
    else:
        assert kept == again


def test_only_so_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_files(tmp_path, {f"{number}.txt": "abc" for number in range(5)})
    monkeypatch.setattr(module, "_KEPT", 7)
    data = DataConfig.model_validate({"train": str(tmp_path)})
    kept = [text.content for text in scan(data, cache_dir=tmp_path / "cache")]
    assert kept == [b"abc"] * 3 + [None] * 2


@pytest.mark.parametrize("change", ["write", "remove", "replace"])
def test_a_small_file_that_changes_after_its_content_was_kept_is_refused(
    change: str, tmp_path: Path
):
    path = tmp_path / "a.txt"
    path.write_text("Мороз", encoding="utf-8")
    data = DataConfig.model_validate({"train": str(path)})
    (text,) = scan(data, cache_dir=tmp_path / "cache")
    assert text.content is not None
    if change == "write":
        path.write_text("Мороз!", encoding="utf-8")
    elif change == "replace":
        status = path.stat()
        (tmp_path / "b").write_text("Ветер", encoding="utf-8")
        os.utime(tmp_path / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "b").replace(path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"changed while it was being read|can't be read: No such"):
        [*read_documents(text, data)]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".jsonl", ".fb2"])
def test_what_is_not_read_as_it_stands_is_not_kept(suffix: str, tmp_path: Path):
    raw = {
        ".gz": gzip.compress(b"abc"),
        ".zst": bytes(pa.compress(b"abc", codec="zstd", asbytes=True)),
        ".jsonl": b'{"text": "abc"}',
        ".fb2": b"<FictionBook><body><section><p>abc</p></section></body></FictionBook>",
    }[suffix]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(raw)
    data = DataConfig.model_validate({"train": str(path)})
    (text,) = scan(data, cache_dir=tmp_path / "cache")
    assert text.content is None
    assert [chunk.text.strip() for chunk in read_documents(text, data)] == ["abc"]
