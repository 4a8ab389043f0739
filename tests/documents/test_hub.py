import logging
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptft.documents import hub as hub_texts
from gptft.documents.hub import HubSource, hub_fingerprint, read_hub
from gptft.documents.records import RecordText
from gptft.errors import DataError

TEXT = RecordText()


@pytest.fixture(autouse=True)
def own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """datasets reads its folder from the environment once; a test has its own."""
    cache = tmp_path / "datasets-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    hub_texts._find_on_hub.cache_clear()
    return cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of JSON lines."""
    folder = tmp_path / "poems"
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        '{"title": "Зима", "text": "снег"}\n{"title": "Лето", "text": "\u2028"}\n', encoding="utf-8"
    )
    (folder / "test.jsonl").write_text('{"title": "T", "text": "t"}\n', encoding="utf-8")
    return folder


@pytest.fixture(params=[False, True], ids=["prepared", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return request.param


def texts(name: object, *, streaming: bool, reader: RecordText = TEXT) -> list[str]:
    source = HubSource.parse(f"hub:{name}")
    return list(read_hub(source, streaming=streaming, reader=reader))


def refused(name: object, *, streaming: bool, reader: RecordText = TEXT) -> str:
    with pytest.raises(DataError) as caught:
        texts(name, streaming=streaming, reader=reader)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "name", "config", "split"),
    [
        ("hub:poems", "poems", None, "train"),
        ("hub:org/poems", "org/poems", None, "train"),
        ("hub:org/poems:ru", "org/poems", "ru", "train"),
        ("hub:org/poems:ru:test", "org/poems", "ru", "test"),
        ("hub:org/poems::test", "org/poems", None, "test"),
        ("hub:org/poems::", "org/poems", None, "train"),
        ("hub:~/poems::train+test", "~/poems", None, "train+test"),
        ("hub:org/poems::train[:10%]", "org/poems", None, "train[:10%]"),
        ("hub:C:\\poems:ru:test", "C:\\poems", "ru", "test"),
        ("hub:C:/poems", "C:/poems", None, "train"),
    ],
)
def test_a_source_is_taken_apart(source: str, name: str, config: str | None, split: str):
    assert HubSource.parse(source) == HubSource(name, config, split)


@pytest.mark.parametrize("source", ["poems", "hub:", "hub::ru", "hub:a:b:c:d", "hub:a::train test"])
def test_a_malformed_source_is_refused(source: str):
    with pytest.raises(DataError, match="hub:NAME:config:split"):
        HubSource.parse(source)


def test_the_rows_of_a_folder(folder: Path, streaming: bool):
    assert texts(folder, streaming=streaming) == ["снег", "\u2028"]
    assert texts(f"{folder}::test", streaming=streaming) == ["t"]
    assert texts(f"{folder}:default:train+test", streaming=streaming) == ["снег", "\u2028", "t"]
    reader = RecordText(template="{title}: {text}")
    assert texts(f"{folder}::test", streaming=streaming, reader=reader) == ["T: t"]


def test_a_slice_is_read_but_not_streamed(folder: Path):
    assert texts(f"{folder}::train[1:]", streaming=False) == ["\u2028"]
    assert "data.streaming: false" in refused(f"{folder}::train[1:]", streaming=True)


def test_a_relative_folder_and_one_named_like_a_format(
    folder: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(folder, folder.parent / "json")
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("poems::test", "./poems::test", "~/poems::test", "json::test"):
        assert texts(name, streaming=streaming) == ["t"]


def test_rows_come_in_order_over_many_batches(tmp_path: Path, streaming: bool):
    values = [str(number) for number in range(2501)]
    (tmp_path / "many").mkdir()
    table = pa.table({"n": range(2501), "text": values})
    pq.write_table(table, tmp_path / "many" / "train.parquet", row_group_size=700)
    assert texts(tmp_path / "many", streaming=streaming) == values


def test_configurations_of_a_card(folder: Path, streaming: bool):
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: summer\n  data_files: train.jsonl\n"
        "- config_name: winter\n  data_files: test.jsonl\n---\n",
        encoding="utf-8",
    )
    assert texts(f"{folder}:winter", streaming=streaming) == ["t"]
    assert "no configuration 'x', only summer, winter." in refused(
        f"{folder}:x", streaming=streaming
    )
    assert "several configurations: summer, winter." in refused(folder, streaming=streaming)


def test_an_unknown_split_lists_those_there(folder: Path, streaming: bool):
    for split in ("dev", "train+dev"):
        said = refused(f"{folder}::{split}", streaming=streaming)
        assert "no split 'dev', only train, test." in said


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("train.csv", "id,text\n1,a\n2,NA\n", "row 2: the field 'text' is null."),
        ("train.csv", "id,text\n1,007\n", "column 'text' is of type int64, not string."),
        ("train.jsonl", '{"text": "a"}\n{"id": 1}\n', "row 2: the field 'text' is null."),
        ("train.jsonl", '{"text": "a"}\n{"text": 7}\n', "column 'text' is of type extension<arrow"),
    ],
)
def test_what_datasets_guessed_is_refused_with_the_strict_way(
    tmp_path: Path, streaming: bool, file: str, content: str, said: str
):
    (tmp_path / "guess").mkdir()
    (tmp_path / "guess" / file).write_text(content, encoding="utf-8")
    message = refused(tmp_path / "guess", streaming=streaming)
    assert said in message
    assert "named without hub: is read as it stands" in message


def test_a_missing_column_lists_those_there(folder: Path, streaming: bool):
    message = refused(folder, streaming=streaming, reader=RecordText("body"))
    assert "has no field 'body', only 'title', 'text'." in message
    assert "as it stands" not in message


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train.jsonl", b'{"text": "a"\n{"text"'),
        ("train.jsonl", b""),
        ("train.txt", b"\xff\xfe\xff"),
        ("train.parquet", b"PAR1 no PAR1"),
    ],
)
def test_a_broken_file_is_one_line_and_nothing_is_printed(
    tmp_path: Path, streaming: bool, file: str, content: bytes, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / file).write_bytes(content)
    assert str(tmp_path / "broken") in refused(tmp_path / "broken", streaming=streaming)
    assert capfd.readouterr() == ("", "")


def test_names_that_lead_nowhere(folder: Path, tmp_path: Path, streaming: bool):
    (tmp_path / "empty").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}", encoding="utf-8")
    for name, said in (
        ("nobody/nothing", "HF_HUB_OFFLINE is set, and the dataset isn't in the cache"),
        ("nothing", "Nor is there a folder of that name"),
        ("./nothing", "no such folder (looked from"),
        (tmp_path / "no", "no such folder"),
        (tmp_path / "empty", "holds no file that datasets can read"),
        (tmp_path / "saved", "was written by save_to_disk"),
        (folder / "train.jsonl", "is a file. Name it without hub:"),
        ("json", "is a file format to datasets"),
    ):
        assert said in refused(name, streaming=streaming)
        with pytest.raises(DataError):
            hub_fingerprint(HubSource.parse(f"hub:{name}"), streaming=streaming)


def test_a_dataset_in_the_cache_is_read_offline(
    folder: Path, own_datasets_cache: Path, streaming: bool
):
    prepared = own_datasets_cache.parent / "elsewhere"
    datasets.load_dataset(str(folder), cache_dir=str(prepared))
    (info,) = (prepared / "poems").rglob("dataset_info.json")
    commit = own_datasets_cache / "org___poems" / "default" / "0.0.0" / ("c" * 40)
    shutil.copytree(info.parent, commit)
    assert texts("org/poems", streaming=streaming) == ["снег", "\u2028"]
    assert "no split 'dev', only train, test." in refused("org/poems::dev", streaming=streaming)
    source = HubSource.parse("hub:org/poems")
    before = hub_fingerprint(source, streaming=streaming)
    commit.rename(commit.with_name("d" * 40))
    assert hub_fingerprint(source, streaming=streaming) == before  # one commit a process
    hub_texts._find_on_hub.cache_clear()
    assert hub_fingerprint(source, streaming=streaming) != before


class TestFingerprint:
    @staticmethod
    def of(name: object, *, streaming: bool = False) -> str:
        return hub_fingerprint(HubSource.parse(f"hub:{name}"), streaming=streaming)

    def test_it_says_what_is_asked_for(self, folder: Path):
        names = (folder, f"{folder}::test", f"{folder}::train+test")
        found = {self.of(name, streaming=way) for name in names for way in (False, True)}
        assert len(found) == 6
        assert all(len(fingerprint) == 32 for fingerprint in found)

    def test_the_same_bytes_elsewhere_and_touched_have_the_same(self, folder: Path):
        before = self.of(folder)
        os.utime(folder / "train.jsonl", (1, 1))
        assert self.of(folder) == before
        moved = folder.rename(folder.with_name("verses"))
        assert self.of(moved) == before

    @pytest.mark.parametrize("change", ["content", "name", "new", "card"])
    def test_a_change_changes_it(self, folder: Path, change: str):
        before = self.of(folder)
        file = folder / "train.jsonl"
        if change == "content":
            file.write_text('{"title": "a", "text": "b"}\n', encoding="utf-8")
        elif change == "name":
            file.rename(folder / "train-1.jsonl")
        elif change == "new":
            shutil.copy(file, folder / "train-2.jsonl")
        else:
            card = "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n"
            (folder / "README.md").write_text(card, encoding="utf-8")
        assert self.of(folder) != before

    def test_a_file_changed_in_size_and_time_to_the_same_is_read_anew(
        self, folder: Path, streaming: bool
    ):
        file = folder / "test.jsonl"
        os.utime(file, (1_000_000_000, 1_000_000_000))
        before = self.of(folder)
        by_itself = datasets.load_dataset_builder(str(folder)).hash
        assert texts(f"{folder}::test", streaming=streaming) == ["t"]
        file.write_text('{"title": "T", "text": "u"}\n', encoding="utf-8")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert datasets.load_dataset_builder(str(folder)).hash == by_itself  # it doesn't notice
        assert self.of(folder) != before
        assert texts(f"{folder}::test", streaming=streaming) == ["u"]


def test_bars_and_log_are_as_before(folder: Path, capfd: pytest.CaptureFixture[str]):
    level = datasets.utils.logging.get_verbosity()
    assert level != logging.CRITICAL
    for _ in read_hub(HubSource.parse(f"hub:{folder}"), streaming=False, reader=TEXT):
        assert not datasets.are_progress_bars_disabled()
        assert datasets.utils.logging.get_verbosity() == level
    assert not datasets.are_progress_bars_disabled()
    assert capfd.readouterr() == ("", "")


def test_bars_that_were_off_stay_off(folder: Path):
    datasets.disable_progress_bars()
    try:
        assert texts(folder, streaming=False) == ["снег", "\u2028"]
        assert datasets.are_progress_bars_disabled()
    finally:
        datasets.enable_progress_bars()
