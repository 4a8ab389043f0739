"""Text inputs -> each one's digest, size and encoding, or every file that can't be read at once.

What was scanned before and hasn't changed since isn't read again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from gptft.config.sections import DataConfig
from gptft.documents.formats.registry import format_of
from gptft.documents.sources import TextInput
from gptft.errors import DataError
from gptft.files import read_json_value, write_text
from gptft.text.encoding import Advance, FileFacts, examine_binary, examine_text

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

HUB_ENCODING = "hub"  # what stands in the facts of a data set of the hub
_MAX_NAMED = 5  # so many bad files are named one by one, the rest are counted
_SETTLED_NS = 2_000_000_000  # a file younger than this may change again within its time stamp


@dataclass(frozen=True)
class Stamp:
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
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path} can't be read: {error.strerror}.") from None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @classmethod
    def of_input(cls, text: TextInput) -> "Stamp | None":
        """The stamp of an input's file; None for a data set of the hub."""
        return None if text.path is None else cls.of(text.path)


Known = dict[tuple[TextInput, Stamp | None], FileFacts]


@dataclass(frozen=True)
class ScannedText:
    """A text source and what is in it.

    Attributes:
        source: where it is.
        facts: its digest, size and encoding.
        stamp: of the file when it was scanned; None for a data set of the hub.
    """

    source: TextInput
    facts: FileFacts
    stamp: Stamp | None

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
    known = _remembered(texts, data, cache_dir)
    total = sum(_size(text) for text in texts) if progress else 0
    scanned: list[ScannedText] = []
    problems: list[str] = []
    done = within = 0

    def advance(num_bytes: int) -> None:
        nonlocal within
        within += num_bytes
        if progress:
            progress("reading", min(done + within, total), total)

    for text in texts:
        try:
            stamp = Stamp.of_input(text)
            facts = known.get((text, stamp)) or _examine(text, data, advance)
            scanned.append(ScannedText(text, facts, stamp))
        except DataError as error:
            problems.append(str(error))
        if progress:
            done, within = done + _size(text), 0
            progress("reading", min(done, total), total)
    if problems:
        raise DataError(_problems_in_short(problems))
    if any(text.stamp and (text.source, text.stamp) not in known for text in scanned):
        remember_scan(scanned, data, cache_dir=cache_dir)
    return scanned


def recall_scan(
    texts: Sequence[TextInput], data: DataConfig, *, cache_dir: Path
) -> list[ScannedText] | None:
    """The scan of these files if it is known and still true; nothing is read for it.

    Raises:
        DataError: a file is gone.
    """
    known = _remembered(texts, data, cache_dir)
    recalled = []
    for text in texts:
        stamp = Stamp.of_input(text)
        if (facts := known.get((text, stamp))) is None:
            return None
        recalled.append(ScannedText(text, facts, stamp))
    return recalled


def _examine(text: TextInput, data: DataConfig, advance: Advance) -> FileFacts:
    if text.path is None:
        from gptft.documents.hub import HubSource, hub_fingerprint

        fingerprint = hub_fingerprint(HubSource.parse(text.name), streaming=data.streaming)
        return FileFacts(fingerprint, num_bytes=0, encoding=HUB_ENCODING, crlf=0)
    if format_of(text.path).is_binary:
        return examine_binary(text.path)
    return examine_text(text.path, encoding=data.encoding, advance=advance)


def _size(text: TextInput) -> int:
    try:
        return text.path.stat().st_size if text.path is not None else 0
    except OSError:
        return 0  # said when it is examined


def _problems_in_short(problems: Sequence[str]) -> str:
    named = list(problems[:_MAX_NAMED])
    if len(problems) > _MAX_NAMED:
        named.append(f"... and {len(problems) - _MAX_NAMED} more files that can't be read.")
    if len(problems) > 1:
        named.append("data.exclude leaves files out by name.")
    return "\n".join(named)


def _memory(texts: Sequence[TextInput], data: DataConfig, cache_dir: Path) -> Path:
    """Where the scan of these very files is kept."""
    paths = ["" if text.path is None else str(text.path.absolute()) for text in texts]
    names = "\0".join([data.encoding, *map(repr, paths)])
    return cache_dir / "scans" / f"{hashlib.sha256(names.encode()).hexdigest()}.json"


def _remembered(texts: Sequence[TextInput], data: DataConfig, cache_dir: Path) -> Known:
    """The facts of an earlier scan; one that can't be read is none."""
    try:
        rows: list[dict[str, Any] | None] = read_json_value(_memory(texts, data, cache_dir))
        return {
            (text, Stamp(*row["stamp"])): FileFacts(**row["facts"])
            for text, row in zip(texts, rows, strict=True)
            if row is not None
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def remember_scan(scanned: Sequence[ScannedText], data: DataConfig, *, cache_dir: Path) -> None:
    """Keep a scan for the next run; failing to is no harm.

    A file touched within the last two seconds is left out: it may be written to once more within
    the same tick of its clock.
    """
    settled = time.time_ns() - _SETTLED_NS
    rows = [
        to_row(text)
        if text.stamp and max(text.stamp.mtime_ns, text.stamp.ctime_ns) < settled
        else None
        for text in scanned
    ]
    memory = _memory([text.source for text in scanned], data, cache_dir)
    partial = memory.with_name(f"{memory.name}.{os.getpid()}.partial")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, json.dumps(rows), partial=partial)


def to_row(text: ScannedText) -> dict[str, Any]:
    """What a scan found of one text, as plain values."""
    stamp = [*astuple(text.stamp)] if text.stamp else None  # a list, as JSON gives it back
    return {"stamp": stamp, "facts": asdict(text.facts)}


def from_row(source: TextInput, row: dict[str, Any]) -> ScannedText:
    """What `to_row` wrote."""
    stamp = Stamp(*row["stamp"]) if row["stamp"] else None
    return ScannedText(source, FileFacts(**row["facts"]), stamp)
