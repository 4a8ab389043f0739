"""Values and paths -> files that are complete or absent, their checksums, and the values back."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal

from gptft.errors import RunError
from gptft.inputs import (
    expand_user,
    nearest_existing,
    open_input,
    parse_json,
    read_input,
    without_waiting,
)

Checksum = Literal["sha256", "xxh3_128"]

# What a system says when a disk, a quota or a file is full.
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SAYS_FULL = ("no space left", "disk quota", "file too large", "os error 28", "errno 28")
_HASHERS = 4  # files read at a time
_TAIL = 65_536  # bytes: a row of a log has some hundreds
_ESCAPED = "backslashreplace"  # half of a surrogate pair as JSON spells it, \ud800
_MAX_JSON = 2**28  # bytes: a tokenizer of 256,000 tokens has an eighth of it


def default_cache_dir() -> Path:
    """Where block stores live: $GPTFT_CACHE, else gptft in $XDG_CACHE_HOME, else ~/.cache/gptft.

    Raises:
        RunError: it is below the home folder of a user that isn't there.
    """
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    named = os.environ.get("GPTFT_CACHE") or os.path.join(above, "gptft")
    try:
        return expand_user(named)
    except OSError as error:
        raise RunError(
            f"The cache can't be in {named}: {error.strerror}. Set GPTFT_CACHE."
        ) from None


class JsonFields:
    """Base of a dataclass of which `as_json` shows more, or other names, than its fields.

    Attributes:
        json_names: names of fields and properties, in their order; all fields where it is empty.
        json_also: names of properties that follow.
        json_digits: by name, to how many places behind the point a number is rounded.
    """

    __slots__ = ()
    json_names: ClassVar[tuple[str, ...]] = ()
    json_also: ClassVar[tuple[str, ...]] = ()
    json_digits: ClassVar[Mapping[str, int]] = {}

    def json_fields(self) -> dict[str, Any]:
        """Values by the names that `as_json` gives them; overridden where a key is no attribute."""
        values = {name: getattr(self, name) for name in (*_names(self), *self.json_also)}
        digits = self.json_digits.items()
        return values | {name: round(values[name], places or None) for name, places in digits}


def as_json(value: Any) -> Any:
    """A value as JSON has it, nested values included.

    Dataclasses become objects with their fields in order (see `JsonFields`), sequences lists,
    paths strings, enums their values, bytes hexadecimal, and floats that aren't finite null.

    >>> as_json({"loss": float("nan"), "losses": (1.0, float("inf")), "path": Path("runs/a")})
    {'loss': None, 'losses': [1.0, None], 'path': 'runs/a'}
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, JsonFields):
        value = value.json_fields()
    elif is_dataclass(value) and not isinstance(value, Sequence):
        value = {name: getattr(value, name) for name in _names(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(item) for item in value]
    return value


def _names(value: Any) -> tuple[str, ...]:
    own = value.json_names if isinstance(value, JsonFields) else ()
    return own or tuple(field.name for field in fields(value))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: it isn't there, or can't be read.
        ValueError: it isn't a JSON object in UTF-8; the message names the file.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, not an object.")
    return value


def read_json_value(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        OSError: it isn't there, or can't be read.
        ValueError: it isn't JSON in UTF-8; the message names the file.
    """
    try:
        return parse_json(read_input(path, at_most=_MAX_JSON))
    except ValueError as error:  # of the UTF-8 decoder, too
        raise ValueError(f"{path} is not readable as JSON: {error}.") from None


def write_json(path: Path, value: Any) -> None:
    """Write `as_json(value)`, indented, as `write_text` does; other objects become strings.

    Raises:
        OSError: as for `write_text`.
    """
    text = json.dumps(as_json(value), ensure_ascii=False, indent=2, default=str)
    _write_bytes(path, f"{text}\n".encode(errors=_ESCAPED))


def write_text(path: Path, text: str, *, partial: Path | None = None) -> None:
    """Write `text` in UTF-8, completely or not at all, and onto the disk.

    Args:
        path: the file; one that is there is replaced by one rename.
        text: its content, line ends as they are.
        partial: the name until then, in the same folder, where several processes may write `path`.

    Raises:
        OSError: it can't be written; `path` is as it was, and nothing else is left.
        UnicodeEncodeError: `text` holds a lone surrogate.
    """
    _write_bytes(path, text.encode(), partial)


def write_output(path: Path, text: str) -> None:
    """Write a text that a command made, as `write_text` does; what UTF-8 can't hold becomes `?`.

    A link keeps pointing at its file, and a device or a pipe is written to: a rename would replace
    them. A pipe that nothing reads from is an error.

    Raises:
        RunError: the file can't be written.
    """
    content = text.encode(errors="replace").decode()
    try:
        if path.exists() and not path.is_file():
            with open(path, "wb", opener=without_waiting) as stream:
                if os.name == "posix":
                    os.set_blocking(stream.fileno(), True)
                stream.write(content.encode())
        else:
            write_text(Path(os.path.realpath(path)), content)  # `resolve` fails for a loop
    except OSError as error:
        why = "it is a FIFO that nothing reads" if error.errno == errno.ENXIO else error.strerror
        raise RunError(
            f"{path} can't be written: {why}. What was there before is intact."
        ) from None


def _write_bytes(path: Path, content: bytes, partial: Path | None = None) -> None:
    partial = partial or path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the rename: else a crash may leave an empty file
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails doesn't say where
        raise
    sync_folder(path.parent)


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one JSON object as a line.

    Raises:
        OSError: the file can't be written.
    """
    with open(path, "a", encoding="utf-8", errors=_ESCAPED, opener=without_waiting) as file:
        file.write(json.dumps(as_json(value), ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The JSON objects of a file, one a line; a missing file has none.

    Returns:
        the objects, and the lines that hold none, as `metrics.jsonl:17`: a killed process may leave
        half a line. Empty lines are skipped.

    Raises:
        OSError: the file can't be read.
    """
    rows, unreadable = [], []
    with suppress(FileNotFoundError):
        lines = read_input(path, at_most=_MAX_JSON).split(b"\n")  # text lines end at \u2028, too
        for number, line in enumerate(lines, start=1):
            if (row := _object(line)) is not None:
                rows.append(row)
            elif line.strip():
                unreadable.append(f"{path.name}:{number}")
    return rows, unreadable


def last_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The last objects of a file of JSON lines, the latest first; none where it can't be read.

    Reads the last 64 KiB, however large the file is.
    """
    for line in reversed(read_tail(path).split(b"\n")):
        if (row := _object(line)) is not None:
            yield row


def keep_json_lines(path: Path, *, until_step: int) -> None:
    """Remove the lines of a log that are torn, have no `step`, or one beyond `until_step`.

    Raises:
        OSError: it is no file, or can't be written.
    """
    if not path.exists():
        return
    with open_input(path) as file:  # however long a run has logged
        content = file.read()
    rows = [(line, (_object(line) or {}).get("step")) for line in content.split(b"\n")]
    kept = [line + b"\n" for line, step in rows if isinstance(step, int) and step <= until_step]
    _write_bytes(path, b"".join(kept))


def read_tail(path: Path) -> bytes:
    """The last 64 KiB of a file; empty where it can't be read."""
    try:
        with open_input(path) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            return file.read(_TAIL)
    except OSError:
        return b""


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def sync_tree(folder: Path) -> None:
    """Put all files and folders of a folder, itself included, on the disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            sync_folder(path)
        else:
            _sync(path)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last; only POSIX systems can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:  # Windows syncs no file that is open for reading only
        os.fsync(file.fileno())


def file_checksum(path: Path, checksum: Checksum = "sha256") -> str:
    """The checksum of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file can't be read.
    """
    with open_input(path) as file:
        return hashlib.file_digest(file, _hasher(checksum)).hexdigest()


def json_checksum(
    value: Any, checksum: Checksum = "sha256", *, default: Callable[[Any], Any] | None = None
) -> str:
    """The checksum of a value's JSON with sorted keys, in hexadecimal.

    Args:
        value: plain values.
        checksum: which.
        default: gives plain values for others; without it these are a TypeError.

    >>> json_checksum({"a": 1, "b": 2}) == json_checksum({"b": 2, "a": 1})
    True
    """
    content = json.dumps(value, sort_keys=True, default=default).encode()
    return str(_hasher(checksum)(content).hexdigest())


def _hasher(checksum: Checksum) -> Any:
    if checksum == "sha256":
        return hashlib.sha256
    import xxhash  # here: only block stores need it

    return xxhash.xxh3_128


def list_files(folder: Path) -> dict[str, Path]:
    """All files below a folder by their names in it, sorted."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def seal_files(folder: Path, checksum: Checksum = "sha256") -> dict[str, dict[str, Any]]:
    """Put every file below a folder on the disk; its manifest.

    Returns:
        by the file's name in the folder, its `size` in bytes and its checksum under that name.

    Raises:
        OSError: the disk is full, or fails.
    """
    from concurrent.futures import ThreadPoolExecutor  # here: every command imports this module

    def seal(path: Path) -> dict[str, Any]:
        entry = {"size": path.stat().st_size, checksum: file_checksum(path, checksum)}
        _sync(path)  # after its bytes were read, so that the disk is at work meanwhile
        return entry

    files = list_files(folder)
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        return dict(zip(files, pool.map(seal, files.values()), strict=True))


def size_problem(path: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a file of a manifest, as far as its size tells."""
    try:
        size, written = path.stat().st_size, int(entry["size"])
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if size == written else f"has {size:,} bytes, not {written:,}"


def byte_problem(path: Path, entry: Mapping[str, Any], checksum: Checksum = "sha256") -> str | None:
    """What is wrong with a file of a manifest; reads all of it."""
    if (problem := size_problem(path, entry)) is not None:
        return problem
    try:
        is_same = file_checksum(path, checksum) == entry.get(checksum)
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if is_same else "isn't what was written"


def free_bytes(folder: Path) -> int:
    """What a file in `folder` can grow to; its nearest existing parent is asked."""
    return shutil.disk_usage(nearest_existing(folder)).free


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that the disk, a quota or a file is full.

    >>> is_disk_full(OSError(28, "No space left on device")), is_disk_full(OSError(5, "I/O error"))
    (True, False)
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _DISK_FULL
    return any(words in str(error).lower() for words in _SAYS_FULL)
