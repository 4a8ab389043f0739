"""The one way from bytes to text: a file, standard input or bytes in memory -> text, or an error.

What isn't UTF-8 is refused where UTF-8 is asked for; else its byte order mark or its letters say
which codec it is in, and it has to decode in that codec to its last byte.
"""

import codecs
import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gptft.errors import DataError
from gptft.files import file_checksum
from gptft.inputs import read_input
from gptft.text.declared import declared_codec
from gptft.text.not_text import (
    READABLE_FORMATS,
    Flaw,
    find_codec,
    refuse_nul,
    refuse_readable_format,
    refuse_undecodable,
)
from gptft.text.streams import LEAVE_OUT, READ_BYTES, ByteSource, NotTextError, unreadable

LineEnds = Literal["keep", "lf"]
Advance = Callable[[int], None]

_HEAD = 4096  # bytes in which a file of markup says what it is in
_MAX_TEXT = 100_000_000  # bytes of a text that a command holds in memory; a corpus is streamed
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKS = tuple(mark for mark, _ in _BOMS)
_EATS_BOM = ("utf-8-sig", "utf-16", "utf-32")  # codecs that leave the mark out of the text


def _no_matter(num_bytes: int) -> None:
    """Nobody wants to know how far the reading is."""


@dataclass(frozen=True)
class FileFacts:
    """What one scan of a file's bytes found.

    Attributes:
        digest: SHA-256 of the decompressed bytes, in hex.
        num_bytes: decompressed.
        encoding: the Python codec to decode with: "utf-8", "utf-8-sig", "utf-16" and "utf-32" (with
            a byte order mark), "cp1251", ...; "binary" from `examine_binary`.
        crlf: the number of CR LF pairs; 0 when not UTF-8.
        left_out: of a book or a page, how much of each kind isn't part of its text, such as notes.
    """

    digest: str
    num_bytes: int
    encoding: str
    crlf: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_text(path: Path, *, line_ends: LineEnds = "keep") -> str:
    """All of a text file in any encoding, without its byte order mark; .gz and .zst read through.

    Raises:
        DataError: the file can't be read, isn't text, or has more than 100 MB of it.
    """
    try:
        raw = read_input(path, at_most=_MAX_TEXT)
    except OSError as error:
        raise unreadable(path, error) from None
    return _read_all(ByteSource.of_bytes(raw, path), line_ends)


def read_stdin() -> str:
    """All of standard input, in any encoding; empty where it is closed or a terminal.

    Raises:
        DataError: it can't be read, isn't text, or has more than 100 MB of it.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    try:
        raw = sys.stdin.buffer.read(_MAX_TEXT + 1)
    except OSError as error:
        raise unreadable("Standard input", error) from None
    return _read_all(ByteSource("Standard input", "text", lambda: io.BytesIO(raw)), "keep")


def _read_all(source: ByteSource, line_ends: LineEnds) -> str:
    num_bytes = 0

    def advance(num_more: int) -> None:
        nonlocal num_bytes
        num_bytes += num_more
        if num_bytes > _MAX_TEXT:
            raise DataError(f"{source.name} has more than {_MAX_TEXT:,} bytes of text. Give less.")

    try:
        facts = _examine(source, "auto", advance)
        return "".join(_read_chunks(source, facts, line_ends, READ_BYTES))
    except NotTextError as error:
        raise error.without_settings() from None


def decode_markup(raw: bytes, *, name: str) -> Iterator[str]:
    """The text of a file of markup in memory, in any encoding, in chunks.

    Raises:
        DataError: it isn't text.
    """
    source = ByteSource(name, "text", lambda: io.BytesIO(raw))
    try:
        facts = _examine(source, "auto", _no_matter, is_markup=True)
        yield from _read_chunks(source, facts, "keep", READ_BYTES)
    except NotTextError as error:
        raise error.without_settings() from None


def examine_text(
    path: Path,
    *,
    encoding: str,
    advance: Advance = _no_matter,
    is_markup: bool = False,
    content: bytes | None = None,
) -> FileFacts:
    """Scan a text file: its digest, its size, its codec, its line ends.

    Args:
        path: a file, .gz and .zst read through.
        encoding: "utf-8", with or without a byte order mark; "auto" for UTF-8, UTF-16 and UTF-32
            with a mark, or else what is detected; or the name of a codec.
        advance: told how many more bytes have been read, as a large file is being read.
        is_markup: whether the file may say itself what it is in: "auto" then takes that before it
            detects anything.
        content: all of its bytes, where they have been read and aren't compressed.

    Returns:
        facts whose `encoding` decodes the whole file; one pass for UTF-8, and one more for
        other text.

    Raises:
        DataError: the file can't be read, isn't text, or isn't in that encoding; with the offset of
            its first bad byte, and what to do.
    """
    if content is not None and encoding in ("auto", "utf-8") and (whole := _whole_utf8(content)):
        return whole
    source = ByteSource.of_file(path)
    return _examine(source, encoding, advance, is_markup=is_markup)


def _examine(
    source: ByteSource, encoding: str, advance: Advance, *, is_markup: bool = False
) -> FileFacts:
    codec = encoding if encoding in ("auto", "utf-8") else _known_codec(encoding)
    if codec not in ("auto", "utf-8", "utf-8-sig"):
        return _scan_codec(source, codec, advance)
    scanned = scan_utf8(source, advance)
    if isinstance(scanned, FileFacts):
        return scanned
    flaw, marked = scanned
    if marked is None and is_markup and codec == "auto":
        marked = declared_codec(next(source.chunks(_HEAD)))
    found = find_codec(source, flaw, marked=marked, may_guess=codec == "auto")
    return _scan_codec(source, found, advance)


def examine_binary(path: Path) -> FileFacts:
    """Scan a file that isn't text: its digest and its size, as it lies on disk.

    Raises:
        DataError: the file can't be read.
    """
    try:
        return FileFacts(file_checksum(path), path.stat().st_size, "binary", 0)
    except OSError as error:
        raise unreadable(path, error) from None


def read_chunks(
    path: Path, facts: FileFacts, *, line_ends: LineEnds, chunk_bytes: int = 4_000_000
) -> Iterator[str]:
    r"""Yield a file's text in chunks, without its byte order mark.

    Args:
        path: the file that was examined.
        facts: what `examine_text` found.
        line_ends: "keep" them, or turn CR LF and CR alone into LF.
        chunk_bytes: decompressed bytes a chunk, >= 1; a file with fewer comes in one chunk.

    Raises:
        DataError: the file can't be read, or doesn't decode any more.
    """
    return _read_chunks(ByteSource.of_file(path), facts, line_ends, chunk_bytes)


def _read_chunks(
    source: ByteSource, facts: FileFacts, line_ends: LineEnds, chunk_bytes: int
) -> Iterator[str]:
    strip_bom = facts.encoding not in _EATS_BOM
    newlines = io.IncrementalNewlineDecoder(None, translate=True) if line_ends == "lf" else None
    for raw, text in _decoded(source, facts.encoding, chunk_bytes):
        if strip_bom and text:
            text = text.removeprefix("\ufeff")
            strip_bom = False
        if newlines is not None:
            text = newlines.decode(text, final=len(raw) < chunk_bytes)
        if text:
            yield text


def _decoded(source: ByteSource, codec: str, chunk_bytes: int) -> Iterator[tuple[bytes, str]]:
    """Chunks as bytes and as text; only the last one has fewer bytes than `chunk_bytes`."""
    decoder = codecs.getincrementaldecoder(codec)()
    num_read = 0
    for raw in source.chunks(chunk_bytes):
        num_read += len(raw)
        try:
            text = decoder.decode(raw, len(raw) < chunk_bytes)
        except UnicodeError as error:
            refuse_undecodable(source, codec, error, num_read)
        yield raw, text


def _whole_utf8(raw: bytes) -> FileFacts | None:
    """What `scan_utf8` finds of a small text in a third of its time; None where it isn't plain."""
    if raw.startswith((*_MARKS, *READABLE_FORMATS)) or b"\0" in raw:
        return None
    try:
        raw.decode()
    except UnicodeDecodeError:
        return None
    name = "utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-8"
    return FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), name, raw.count(b"\r\n"))


def _scan_codec(source: ByteSource, codec: str, advance: Advance) -> FileFacts:
    """Decode all of it strictly in `codec`, digesting it."""
    digest, num_bytes, num_chars = hashlib.sha256(), 0, 0
    for raw, text in _decoded(source, codec, READ_BYTES):
        digest.update(raw)
        num_bytes += len(raw)
        advance(len(raw))
        if (nul := text.find("\0")) >= 0:
            raise NotTextError(
                f"{source.name} is not text in {codec}: NUL at character {num_chars + nul:,}",
                "name another data.encoding",
                LEAVE_OUT,
            )
        num_chars += len(text)
    return FileFacts(digest.hexdigest(), num_bytes, codec, 0)


def scan_utf8(source: ByteSource, advance: Advance) -> FileFacts | tuple[Flaw, str | None]:
    """Scan what claims to be UTF-8.

    Returns:
        its facts; or, where it isn't UTF-8, why, and the codec that its byte order mark names.

    Raises:
        DataError: it can't be read, or holds a NUL.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    digest, num_bytes, crlf = hashlib.sha256(), 0, 0
    head, last = b"", b""
    for raw in source.chunks(READ_BYTES):
        if not head:
            refuse_readable_format(source, head := raw)
        if not num_bytes and raw.startswith(_MARKS):
            return Flaw(0, raw[0]), next(codec for mark, codec in _BOMS if raw.startswith(mark))
        if (nul := raw.find(0)) >= 0:
            refuse_nul(source, offset=num_bytes + nul, head=head)
        num_bytes += len(raw)
        try:
            # ASCII is known ten times as fast, where the chunk before ends with a whole character.
            if not raw.isascii() or decoder.getstate()[0]:
                decoder.decode(raw, len(raw) < READ_BYTES)
        except UnicodeDecodeError as error:
            # Its object is what the decoder had kept of a character, and `raw`.
            offset = num_bytes - len(error.object) + error.start
            return Flaw(offset, error.object[error.start]), None
        digest.update(raw)
        if len(raw) == READ_BYTES:
            advance(len(raw))
        if b"\r" in raw:  # which is known much faster than how many there are
            crlf += raw.count(b"\r\n")
        crlf += last == b"\r" and raw[:1] == b"\n"
        last = raw[-1:]
    name = "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    return FileFacts(digest.hexdigest(), num_bytes, name, crlf)


def _known_codec(encoding: str) -> str:
    """The codec's name, normalised only where this module knows it by name."""
    try:
        info = codecs.lookup(encoding)
        b"    ".decode(encoding, "ignore")  # hex, zip and their like are codecs, but none of text
        if info.incrementaldecoder is None:
            raise LookupError
    except (LookupError, ValueError):
        raise DataError(
            f"data.encoding: {encoding} is not a text encoding Python knows. Use utf-8, auto, or a "
            "codec's name, such as cp1251, koi8-r or utf-16-le."
        ) from None
    known = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    return info.name if info.name in known else encoding
