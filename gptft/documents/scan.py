"""Text inputs -> each one's digest, size and encoding, or every file that can't be read at once.

What was scanned before and hasn't changed since isn't read again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from gptft.config.data import DataConfig
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.registry import format_of
from gptft.documents.sources import TextInput
from gptft.errors import DataError
from gptft.files import read_json_value, write_text
from gptft.terminal.words import count
from gptft.text.encoding import Advance, FileFacts, examine_binary, examine_text, read_chunks
from gptft.text.streams import is_compressed, unreadable

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

HUB_ENCODING = "hub"  # what stands in the facts of a dataset of the hub
_SMALL = 16_384  # bytes of a file that is kept
_KEPT = 32_000_000  # bytes that are kept of all files
_MAX_NAMED = 5  # so many bad files are named one by one, the rest are counted
_SETTLED_NS = 2_000_000_000  # a file younger than this may change again within its time stamp


class Stamp(NamedTuple):
    """What tells an unchanged file from another one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """The stamp of a file as it is now.

        Raises:
            DataError: it is gone or can't be asked about.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            raise unreadable(path, error) from None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @classmethod
    def of_input(cls, text: TextInput) -> "Stamp | None":
        """The stamp of an input's file; None for a dataset of the hub."""
        return None if text.path is None else cls.of(text.path)


_STAMP = len(Stamp._fields)
Known = dict[tuple[TextInput, Stamp | None], FileFacts]


@dataclass(frozen=True)
class ScannedText:
    """A text source and what is in it.

    Attributes:
        source: where it is.
        facts: its digest, size and encoding.
        stamp: of the file when it was scanned; None for a dataset of the hub.
        content: of a small file of plain UTF-8, kept because to open it again takes longer than to
            read it.
    """

    source: TextInput
    facts: FileFacts
    stamp: Stamp | None
    content: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_row(cls, source: TextInput, row: Mapping[str, Any]) -> "ScannedText":
        """What `as_row` gave."""
        stamp = Stamp(*row["stamp"]) if row["stamp"] else None
        return cls(source, FileFacts(**row["facts"]), stamp)

    def as_row(self) -> dict[str, Any]:
        """What a scan found, as plain values."""
        stamp = [*self.stamp] if self.stamp else None  # a list, as JSON gives it back
        return {"stamp": stamp, "facts": asdict(self.facts)}

    def check_unchanged(self) -> None:
        """Refuse a file that isn't what was scanned any more.

        Raises:
            DataError: it was written to, replaced or removed since.
        """
        if self.source.path is not None and Stamp.of(self.source.path) != self.stamp:
            raise DataError(
                f"{self.source.name} changed while it was being read. Run again when nothing "
                "writes to it."
            )


def scan_texts(
    texts: Sequence[TextInput],
    data: DataConfig,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
) -> list[ScannedText]:
    """Read every file once, unless an earlier scan of the same files is still true.

    Args:
        texts: as `find_texts` gives them.
        data: the config's data section, for its encoding and streaming.
        cache_dir: where scans are remembered.
        progress: told ("reading", bytes done, bytes in all).

    Raises:
        DataError: some can't be read; five are named, the rest are counted.
    """
    memory = _memory(texts, data, cache_dir)
    known = _remembered(memory, texts)
    total = sum(text.num_bytes for text in texts) if progress else 0
    scanned: list[ScannedText] = []
    problems: list[str] = []
    done = within = kept = 0

    def advance(num_bytes: int) -> None:
        nonlocal within
        within += num_bytes
        if progress:
            progress("reading", min(done + within, total), total)

    for text in texts:
        try:
            stamp, content = Stamp.of_input(text), None
            if (facts := known.get((text, stamp)) if known else None) is None:
                content = _content(text, stamp) if kept < _KEPT else None
                facts = _examine(text, data, advance, content)
                content = content if facts.encoding == "utf-8" else None
                kept += len(content or b"")
            scanned.append(ScannedText(text, facts, stamp, content))
        except DataError as error:
            problems.append(str(error))
        if progress:
            done, within = done + text.num_bytes, 0
            progress("reading", min(done, total), total)
    if problems:
        raise DataError(_problems_in_short(problems))
    if any(text.stamp and (text.source, text.stamp) not in known for text in scanned):
        _remember(memory, scanned)
    return scanned


def recall_scan(
    texts: Sequence[TextInput], data: DataConfig, *, cache_dir: Path
) -> list[ScannedText] | None:
    """The scan of these files if it is known and still true; nothing is read for it.

    Raises:
        DataError: a file is gone.
    """
    if not (known := _remembered(_memory(texts, data, cache_dir), texts)):
        return None
    stamped = [(text, Stamp.of_input(text)) for text in texts]
    if any(one not in known for one in stamped):
        return None
    return [ScannedText(text, known[text, stamp], stamp) for text, stamp in stamped]


def _content(text: TextInput, stamp: Stamp | None) -> bytes | None:
    """All bytes of a small file that is read as it stands."""
    if text.path is None or stamp is None or stamp.size > _SMALL or not _is_plain(text.path):
        return None
    try:
        with open(text.path, "rb", buffering=0) as file:
            raw: bytes = file.read(2 * _SMALL)
            return raw if len(raw) == stamp.size else None  # else it is being written to
    except OSError as error:
        raise unreadable(text.path, error) from None


def _is_plain(path: Path) -> bool:
    """Whether a file holds text alone, not compressed."""
    return format_of(path).read_records is None and not is_compressed(path)


def _examine(
    text: TextInput, data: DataConfig, advance: Advance, content: bytes | None
) -> FileFacts:
    if text.path is None:
        from gptft.documents.hub import HubSource, hub_fingerprint

        fingerprint = hub_fingerprint(HubSource.parse(text.name), streaming=data.streaming)
        return FileFacts(fingerprint, num_bytes=0, encoding=HUB_ENCODING, crlf=0)
    kind = format_of(text.path)
    if kind.is_binary:
        facts = examine_binary(text.path)
    else:
        facts = examine_text(
            text.path, encoding=data.encoding, advance=advance, is_markup=kind.is_markup,
            content=content,
        )  # fmt: skip
    if kind.count_left_out is None:
        return facts
    chunks = read_chunks(text.path, facts, line_ends=data.line_ends)
    left_out = kind.count_left_out(OpenedFile(text.name, text.path, chunks))
    return replace(facts, crlf=0, left_out=left_out)  # in markup a line's end is white space


def _problems_in_short(problems: Sequence[str]) -> str:
    named = [*problems[:_MAX_NAMED]]
    if (more := len(problems) - _MAX_NAMED) > 0:
        named.append(f"... and {count(more, 'more file')} that can't be read.")
    if len(problems) > 1:
        named.append("data.exclude leaves files out by name.")
    return "\n".join(named)


def _memory(texts: Sequence[TextInput], data: DataConfig, cache_dir: Path) -> Path:
    """Where the scan of these very files is kept."""
    folder = os.getcwd()
    names = "\0".join([data.encoding, *(_memory_of_one(text, folder) for text in texts)])
    return cache_dir / "scans" / f"{hashlib.sha256(names.encode()).hexdigest()}.json"


def _memory_of_one(text: TextInput, folder: str) -> str:
    """What stands for a text; `folder` is the working one."""
    if text.path is None:
        return repr("")
    # As `Path.absolute` has it, which asks for the working folder once a file.
    kind, path = format_of(text.path), repr(os.path.join(folder, text.path))
    # What a reader leaves out is known of one version of it.
    return path if kind.count_left_out is None else f"{path} {kind.version}"


def _remembered(memory: Path, texts: Sequence[TextInput]) -> Known:
    """The facts of an earlier scan; one that can't be read is none."""
    try:
        rows: list[list[Any] | None] = read_json_value(memory)
        pairs = zip(texts, rows, strict=True)
        return {
            (text, Stamp(*row[:_STAMP])): FileFacts(*row[_STAMP:])
            for text, row in pairs
            if row is not None
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def remember_scan(scanned: Sequence[ScannedText], data: DataConfig, *, cache_dir: Path) -> None:
    """Keep a scan for the next run; failing to is no harm.

    A file touched within the last two seconds is left out: it may be written to once more within
    the same tick of its clock.
    """
    _remember(_memory([text.source for text in scanned], data, cache_dir), scanned)


def _remember(memory: Path, scanned: Sequence[ScannedText]) -> None:
    settled = time.time_ns() - _SETTLED_NS
    rows = [
        # In order and without names: a corpus may have a hundred thousand files.
        [*stamp, facts.digest, facts.num_bytes, facts.encoding, facts.crlf, {**facts.left_out}]
        if (stamp := text.stamp) and max(stamp.mtime_ns, stamp.ctime_ns) < settled
        else None
        for text in scanned
        for facts in [text.facts]
    ]
    partial = memory.with_name(f"{memory.name}.{os.getpid()}.partial")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, json.dumps(rows), partial=partial)
