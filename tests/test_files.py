"""Files that are complete or absent, under faults: full disks, crashes, torn lines."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

import pytest

from gptft import files
from gptft.errors import RunError
from gptft.files import (
    JsonFields,
    append_json_line,
    as_json,
    byte_problem,
    file_checksum,
    is_disk_full,
    json_checksum,
    keep_json_lines,
    last_json_lines,
    read_json,
    read_json_lines,
    seal_files,
    size_problem,
    sync_tree,
    write_json,
    write_output,
    write_text,
)

# `printf abc | sha256sum`, `printf abc | xxhsum -H2`
SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
XXH3_ABC = "06b05ab6733a618578af5f94892f3950"
# `printf '{"a": [1], "b": 2}' | sha256sum`
SHA256_JSON = "b5ae5c880a6fcd5909628dbf70774b76da84c70462f000f9840bded47d08dc80"


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner(JsonFields):
    count: int
    total: int

    json_also = ("share", "percent")
    json_digits: ClassVar = {"share": 2, "percent": 0}

    @property
    def share(self) -> float:
        return self.count / self.total

    @property
    def percent(self) -> float:
        return 100 * self.share


@dataclass(frozen=True)
class Outer:
    path: Path
    inner: tuple[Inner, ...]
    by_length: dict[int, float]
    data: bytes
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class Short(JsonFields):
    b: int
    a: int

    json_names = ("a",)


@dataclass(frozen=True)
class Renamed(JsonFields):
    is_special: bool

    def json_fields(self) -> dict[str, object]:
        return {"special": self.is_special, "loss": float("inf"), "inner": Inner(1, 2)}


def test_a_value_as_json():
    value = Outer(Path("a") / "b", (Inner(1, 3),), {2: float("nan")}, b"\xff\x00", Colour.RED)
    found = as_json(value)
    assert found == {
        "path": str(Path("a") / "b"),
        "inner": [{"count": 1, "total": 3, "share": 0.33, "percent": 33}],
        "by_length": {"2": None},
        "data": "ff00",
        "colour": "red",
    }
    assert list(found) == ["path", "inner", "by_length", "data", "colour"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert as_json(Short(1, 2)) == {"a": 2}
    assert as_json([Renamed(True)]) == [
        {
            "special": True,
            "loss": None,
            "inner": {"count": 1, "total": 2, "share": 0.5, "percent": 50},
        }
    ]


def fail_with(number: int) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
):
    path = tmp_path / "run.json"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(*((files.os, call) if call == "fsync" else (Path, call)), fail_with(number))
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            write_text(path, "new")
        with pytest.raises(RunError, match=r"can't be written.*What was there before is intact"):
            write_output(path, "new")
    assert is_disk_full(caught.value) is (number == errno.ENOSPC)
    assert path.read_text(encoding="utf-8") == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a"
    write_text(path, "old")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(path, "new", partial=tmp_path / "full")
    assert is_disk_full(caught.value)
    assert path.read_text(encoding="utf-8") == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="pipes and links as POSIX has them")
def test_an_output_goes_into_a_pipe_and_through_a_link(tmp_path: Path):
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    with pytest.raises(RunError, match="it is a FIFO that nothing reads"):
        write_output(pipe, "буря")  # which would wait for ever
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, "буря")
    assert os.read(reader, 100).decode() == "буря"
    os.close(reader)
    assert pipe.is_fifo()
    link.symlink_to(target)
    write_output(link, "мгла")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "мгла"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_an_output_that_a_device_refuses_is_an_error_and_the_device_stays():
    with pytest.raises(RunError, match="can't be written: No space left"):
        write_output(Path("/dev/full"), "x")
    assert Path("/dev/full").is_char_device()


def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a"
    write_text(path, "old")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def test_an_output_is_written_completely_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a.html"
    write_output(path, "old")
    write_output(path, "new \ud800\r\n")
    assert path.read_bytes() == b"new ?\r\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "full").touch()
    with pytest.raises(RunError, match="can't be written"):
        write_output(tmp_path / "b", "text")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b"]
    with pytest.raises(RunError, match="can't be written"):
        write_output(tmp_path / "absent" / "c", "text")


def test_json_is_written_as_it_is_read(tmp_path: Path):
    path = tmp_path / "run.json"
    write_json(path, {"name": "ж", "loss": float("nan"), "folder": Path("a"), "type": int})
    expected = (
        '{\n  "name": "ж",\n  "loss": null,\n  "folder": "a",\n  "type": "<class \'int\'>"\n}\n'
    )
    assert path.read_text(encoding="utf-8") == expected
    assert read_json(path)["loss"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "a.json is not readable as JSON: Expecting"),
        (b"\xff{}", "a.json is not readable as JSON: 'utf-8' codec"),
        (b"[" * 200_000, "a.json is not readable as JSON: it is nested too deeply"),
        (b"[1]", "a.json holds a JSON list, not an object"),
    ],
)
def test_what_is_no_json_object_is_named(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_json(path)


class TestJsonLines:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        """Three rows, one with Unicode's own line separators, a list, and half a row."""
        path = tmp_path / "metrics.jsonl"
        append_json_line(path, {"step": 1, "loss": float("inf")})
        append_json_line(path, {"step": 2, "text": "a\u2028b\x85"})
        with path.open("ab") as file:
            file.write(b"[1]\n\n")
        append_json_line(path, {"step": 3})
        with path.open("ab") as file:
            file.write('{"step": 4, "text": "ж'.encode()[:-1])
        return path

    def test_are_read_without_the_torn_one(self, log: Path):
        rows, unreadable = read_json_lines(log)
        text = {"step": 2, "text": "a\u2028b\x85"}
        assert rows == [{"step": 1, "loss": None}, text, {"step": 3}]
        assert unreadable == ["metrics.jsonl:3", "metrics.jsonl:6"]
        assert read_json_lines(log.with_name("absent")) == ([], [])

    def test_are_read_from_the_end(self, log: Path):
        assert [row["step"] for row in last_json_lines(log)] == [3, 2, 1]
        assert [*last_json_lines(log.with_name("absent"))] == []

    def test_are_cut_back_to_a_step(self, log: Path):
        lines = log.read_bytes().split(b"\n")
        keep_json_lines(log, until_step=2)
        assert log.read_bytes() == lines[0] + b"\n" + lines[1] + b"\n"
        keep_json_lines(log, until_step=0)
        assert log.read_bytes() == b""
        keep_json_lines(log.with_name("absent"), until_step=1)
        assert [path.name for path in log.parent.iterdir()] == ["metrics.jsonl"]

    @pytest.mark.skipif(os.name != "posix", reason="needs FIFOs")
    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
    def test_that_are_no_file_are_refused_at_once(self, log: Path, make: Callable[[Path], None]):
        log.unlink()
        make(log)
        if os.path.exists(log):  # which a link to itself doesn't
            with pytest.raises(OSError, match=r"FIFO|directory"):
                keep_json_lines(log, until_step=1)
        with pytest.raises(OSError, match=r"No such device|directory|symbolic links"):
            append_json_line(log, {"step": 1})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "inner" / "a").write_bytes(b"")
    return tmp_path


def test_checksums_are_those_of_other_programs(folder: Path):
    assert file_checksum(folder / "b") == SHA256_ABC
    assert file_checksum(folder / "b", "xxh3_128") == XXH3_ABC
    assert json_checksum({"b": 2, "a": [1]}) == SHA256_JSON


def test_a_manifest_tells_what_differs(folder: Path):
    manifest = seal_files(folder)
    sync_tree(folder)
    assert [*manifest] == ["b", "inner/a"]
    assert manifest["b"] == {"size": 3, "sha256": SHA256_ABC}
    assert seal_files(folder, "xxh3_128")["b"] == {"size": 3, "xxh3_128": XXH3_ABC}
    assert byte_problem(folder / "b", manifest["b"]) is None
    (folder / "b").write_bytes(b"abd")
    assert size_problem(folder / "b", manifest["b"]) is None
    assert byte_problem(folder / "b", manifest["b"]) == "isn't what was written"
    (folder / "b").write_bytes(b"ab")
    assert byte_problem(folder / "b", manifest["b"]) == "has 2 bytes, not 3"
    (folder / "b").unlink()
    assert byte_problem(folder / "b", manifest["b"]) == "is missing"
    (folder / "b").mkdir()
    assert byte_problem(folder / "b", {"size": (folder / "b").stat().st_size}) == (
        f"can't be read ({os.strerror(errno.EISDIR)})"
    )


def test_a_disk_that_fails_is_told_by_both(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files.os, "fsync", fail_with(errno.ENOSPC))
    for write in (seal_files, sync_tree):
        with pytest.raises(OSError, match="No space left"):
            write(folder)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "no space left"), False),
        (RuntimeError("PytorchStreamWriter: No space left on device (os error 28)"), True),
        (RuntimeError("unexpected pos 64 vs 0"), False),
    ],
)
def test_what_says_that_a_disk_is_full(error: Exception, is_full: bool):
    assert is_disk_full(error) is is_full


@pytest.mark.parametrize("text", ["\ud800", "a\udfff\\b", 'ж"\udc80"', "\U0001f600"])
def test_half_of_a_surrogate_pair_is_written_as_json_escapes_it(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    write_json(path, {text: [text]})
    assert read_json(path) == {text: [text]}
    append_json_line(tmp_path / "a.jsonl", {text: text})
    assert read_json_lines(tmp_path / "a.jsonl") == ([{text: text}], [])
    path.read_text(encoding="utf-8")
