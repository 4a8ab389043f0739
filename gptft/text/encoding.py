r"""A file's bytes -> what they are, and its text as a stream.

In: a path, and the setting `data.encoding`. Out: `FileFacts`, found in one pass over a UTF-8 file
of any size in flat memory, and then the file's text in pieces. Compressed files (.gz, .zst) are
read through. Knows nothing of documents and tokens. Must not import torch, transformers, datasets
or pandas; pyarrow is imported for .zst only, charset_normalizer only for text that isn't UTF-8.

What isn't UTF-8 is refused, unless the user names a codec or asks for `auto`; then the file has to
decode in that codec to its last byte.
"""

import codecs
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn, cast

from gptft.errors import DataError
from gptft.text.detection import detect_codec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPRESSED_SUFFIXES = (".gz", ".zst")

_SMALL = 32 * 1024  # files up to this are decoded to check them; larger ones go through numpy
_READ = 256 * 1024  # bytes a read, so that they and their masks stay in a core's cache
_HALF_SAMPLE = 512 * 1024  # bytes of the head, and around the first bad one, to detect a codec by
_CR, _LF = 13, 10

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EATS_BOM = ("utf-8-sig", "utf-16", "utf-32")

_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a zip archive, as .docx and .epub are"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x8b", "gzip data; name it .gz to have it read"),
    (b"\x28\xb5\x2f\xfd", "zstd data; name it .zst to have it read"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ", "xz data"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PAR1", "Parquet data; name it .parquet"),
    (b"\x7fELF", "a program"),
    (b"OggS", "Ogg media"),
    (b"RIFF", "RIFF media"),
    (b"ID3", "an MP3"),
)


Advance = Callable[[int], None]


def _no_matter(num_bytes: int) -> None:
    """Nobody wants to know how far the reading is."""


@dataclass(frozen=True)
class FileFacts:
    """What one survey of a file's bytes found.

    Attributes:
        digest: SHA-256 of the decompressed bytes, in hex.
        num_bytes: decompressed.
        encoding: the Python codec to decode with: "utf-8", "utf-8-sig", "utf-16" and "utf-32" (with
            a byte order mark), "cp1251", ...; "binary" from `examine_binary`.
        crlf: the number of CR LF pairs; 0 when not UTF-8.
    """

    digest: str
    num_bytes: int
    encoding: str
    crlf: int


@dataclass(frozen=True)
class _Flaw:
    """The first byte that isn't UTF-8 text: where it is and what it is."""

    offset: int
    byte: int


@dataclass(frozen=True)
class _Guess:
    """Where text that isn't UTF-8 stands: the codec found, None when nothing is plausible."""

    codec: str | None
    is_damaged_utf8: bool = False


def content_suffix(path: Path) -> str:
    """The lower-case suffix of what a file holds, compression aside.

    >>> [content_suffix(Path(name)) for name in ("a.JSONL.gz", "a.txt", "a.gz")]
    ['.jsonl', '.txt', '']
    """
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED_SUFFIXES else path
    return inner.suffix.lower()


def open_bytes(path: Path) -> BinaryIO:
    """Open a file's bytes for reading, decompressed where its suffix is .gz or .zst.

    Returns:
        a buffered stream, to be closed (`with`). Reading from a compressed one that is cut short or
        corrupt raises a DataError; a .zst file without checksums can hide corruption.

    Raises:
        DataError: the file can't be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED_SUFFIXES:
        return raw
    if suffix == ".gz":
        stream = cast(BinaryIO, GzipFile(fileobj=raw, mode="rb"))
    else:
        import pyarrow as pa

        stream = pa.input_stream(raw, compression="zstd")
    return io.BufferedReader(_Decompressed(path, raw=raw, stream=stream), buffer_size=_READ)


class _Decompressed(io.RawIOBase):
    """A stream that says in a DataError what is wrong with a compressed file."""

    def __init__(self, path: Path, *, raw: BinaryIO, stream: BinaryIO) -> None:
        self._path = path
        self._raw = raw
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise self._broken(error) from None
        except OSError as error:
            if error.errno is not None:
                raise _unreadable(self._path, error) from None
            raise self._broken(error) from None  # Arrow's word for a bad .zst
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._raw.close()
        super().close()

    def _broken(self, error: Exception) -> DataError:
        return DataError(
            f"{self._path} is not a whole {self._path.suffix.lower()} file: "
            f"{str(error).rstrip('.')}. Copy it again, or leave it out with data.exclude."
        )


def examine_text(path: Path, *, encoding: str, advance: Advance = _no_matter) -> FileFacts:
    """Survey a text file: its digest, its size, its codec, its line ends.

    Args:
        path: a file, .gz and .zst read through.
        encoding: "utf-8", with or without a byte order mark; "auto" for UTF-8, UTF-16 and UTF-32
            with a mark, or else what is detected; or the name of a codec.
        advance: told how many more bytes have been read, as a large file is being read.

    Returns:
        facts whose `encoding` decodes the whole file; one pass for UTF-8, and one more for
        other text.

    Raises:
        DataError: the file can't be read, isn't text, or isn't in that encoding; with the offset of
            its first bad byte, and what to do.
    """
    codec = encoding if encoding in ("auto", "utf-8") else _known_codec(encoding)
    try:
        if codec not in ("auto", "utf-8", "utf-8-sig"):
            return _scan_codec(path, codec=codec, advance=advance)
        with open_bytes(path) as stream:
            head = stream.read(_SMALL + 1)
            marked = _marked_codec(head)
            scanned = (
                _Flaw(0, head[0])
                if marked
                else _scan_utf8(path, stream, head=head, advance=advance)
            )
        if isinstance(scanned, FileFacts):
            return scanned
        if marked is not None:
            guess = _Guess(marked)
        else:
            sample = _sample(path, around=scanned.offset)
            _refuse_binary(path, sample)
            guess = _guess(sample)
        if codec != "auto" or guess.codec is None:
            _refuse_utf8(path, scanned, guess)
        return _scan_codec(path, codec=guess.codec, advance=advance)
    except OSError as error:
        raise _unreadable(path, error) from None


def examine_binary(path: Path) -> FileFacts:
    """Survey a file that isn't text: its digest and its size, as it lies on disk.

    Raises:
        DataError: the file can't be read.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return FileFacts(digest, stream.tell(), "binary", 0)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_chunks(
    path: Path, facts: FileFacts, *, line_ends: Literal["keep", "lf"], chunk_bytes: int = 4_000_000
) -> Iterator[str]:
    r"""Yield a file's text in pieces, without its byte order mark.

    Args:
        path: the file that was examined.
        facts: what `examine_text` found.
        line_ends: "keep" them, or turn CR LF and CR alone into LF.
        chunk_bytes: decompressed bytes a piece, >= 1; a file with fewer comes in one piece.

    Raises:
        DataError: the file can't be read, or doesn't decode any more.
    """
    strip_bom = facts.encoding not in _EATS_BOM
    newlines = io.IncrementalNewlineDecoder(None, translate=True) if line_ends == "lf" else None
    for raw, text in _decoded(path, codec=facts.encoding, chunk_bytes=chunk_bytes):
        if strip_bom and text:
            text = text.removeprefix("\ufeff")
            strip_bom = False
        if newlines is not None:
            text = newlines.decode(text, final=len(raw) < chunk_bytes)
        if text:
            yield text


def _decoded(path: Path, *, codec: str, chunk_bytes: int) -> Iterator[tuple[bytes, str]]:
    """A file in pieces, as bytes and as text; only the last piece is less than `chunk_bytes`."""
    decoder = codecs.getincrementaldecoder(codec)()
    num_read = 0
    try:
        with open_bytes(path) as stream:
            is_last = False
            while not is_last:
                raw = stream.read(chunk_bytes)
                num_read += len(raw)
                is_last = len(raw) < chunk_bytes
                yield raw, decoder.decode(raw, is_last)
    except UnicodeDecodeError as error:
        # The decoder's object is what it had kept and the last piece: both end at num_read.
        offset = num_read - len(error.object) + error.start
        raise DataError(
            f"{path} is not {codec} to its end: byte 0x{error.object[error.start]:02x} at offset "
            f"{offset:,} ({error.reason}). Repair it, name its encoding in data.encoding, or leave "
            "it out with data.exclude."
        ) from None
    except UnicodeError as error:
        raise DataError(f"{path} is not {codec}: {error}. Name another data.encoding.") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _scan_codec(path: Path, *, codec: str, advance: Advance) -> FileFacts:
    """Decode the whole file strictly in `codec`, digesting it."""
    digest, num_bytes, num_chars = hashlib.sha256(), 0, 0
    for raw, text in _decoded(path, codec=codec, chunk_bytes=_READ):
        digest.update(raw)
        num_bytes += len(raw)
        advance(len(raw))
        nul = text.find("\0")
        if nul >= 0:
            raise DataError(
                f"{path} is not text in {codec}: NUL at character {num_chars + nul:,}. Name "
                "another data.encoding, or leave it out with data.exclude."
            )
        num_chars += len(text)
    return FileFacts(digest.hexdigest(), num_bytes, codec, 0)


def _scan_utf8(path: Path, stream: BinaryIO, *, head: bytes, advance: Advance) -> FileFacts | _Flaw:
    """Survey what claims to be UTF-8; a `_Flaw` where it isn't.

    Raises:
        DataError: it holds a NUL.
    """
    if len(head) > _SMALL:
        return _scan_large(path, stream, head=head, advance=advance)
    if 0 in head:
        _refuse_nul(path, offset=head.find(0), head=head)
    flaw = _first_bad(head)
    if flaw is not None:
        return _Flaw(flaw, head[flaw])
    digest = hashlib.sha256(head).hexdigest()
    return FileFacts(digest, len(head), _utf8_name(head), head.count(b"\r\n"))


def _scan_large(
    path: Path, stream: BinaryIO, *, head: bytes, advance: Advance
) -> FileFacts | _Flaw:
    import numpy as np

    digest = hashlib.sha256()
    buffer = bytearray(max(_READ, len(head)) + 3)  # what is read, after a character begun before
    view = memoryview(buffer)
    scratch = np.empty((2, len(buffer)), dtype=np.bool_)
    buffer[: len(head)] = head
    carried, filled, start, crlf, ends_in_cr = 0, len(head), 0, 0, False
    while filled > carried:
        digest.update(view[carried:filled])
        advance(filled - carried)
        nul = buffer.find(0, carried, filled)
        if nul >= 0:
            _refuse_nul(path, offset=start + nul, head=head)
        end = _character_border(buffer, filled)
        if not _is_plainly_utf8(buffer, end, scratch):
            bad = _first_bad(view[:end])
            if bad is not None:
                return _Flaw(start + bad, buffer[bad])
        if ends_in_cr and buffer[0] == _LF:
            crlf += 1
        crlf += _count_crlf(buffer, end, scratch)
        ends_in_cr = buffer[filled - 1] == _CR
        start += end
        carried = filled - end
        view[:carried] = bytes(view[end:filled])
        filled = carried + cast(io.BufferedReader, stream).readinto(view[carried : carried + _READ])
    if carried:
        return _Flaw(start, buffer[0])
    return FileFacts(digest.hexdigest(), start, _utf8_name(head), crlf)


def _character_border(buffer: bytearray, end: int) -> int:
    """The end of the last whole character before `end`, at most 3 bytes back."""
    for i in range(end - 1, max(end - 4, -1), -1):
        if buffer[i] >= 0xC0:  # a lead byte
            length = 2 + (buffer[i] >= 0xE0) + (buffer[i] >= 0xF0)
            return i if i + length > end else end
        if buffer[i] < 0x80:
            break
    return end


def _is_plainly_utf8(buffer: bytearray, end: int, scratch: "NDArray[np.bool_]") -> bool:
    """Whether the first `end` bytes are UTF-8 for certain; False says "decode them to know".

    A byte continues a character exactly where a lead byte before it says so: 5 times as fast as
    decoding Cyrillic. The lead bytes with rules of their own (E0, ED, F0 and above, and C0 and C1,
    which are never right: the Unicode standard, table 3-7) are left to the decoder.
    """
    import numpy as np

    if any(buffer.find(lead, 0, end) >= 0 for lead in (0xC0, 0xC1, 0xE0, 0xED)):
        return False
    text = np.frombuffer(buffer, dtype=np.uint8, count=end)
    if end < 3 or text.max() >= 0xF0 or text[-1] >= 0xC0 or text[-2] >= 0xE0:
        return False
    expected, found = scratch[0, :end], scratch[1, :end]
    np.greater_equal(text, 0xC0, out=found)
    expected[0] = False
    expected[1:] = found[:-1]
    np.greater_equal(text, 0xE0, out=found)
    np.logical_or(expected[2:], found[:-2], out=expected[2:])
    np.less(text.view(np.int8), -64, out=found)  # 80 to BF
    return bool(np.array_equal(expected, found))


def _count_crlf(buffer: bytearray, end: int, scratch: "NDArray[np.bool_]") -> int:
    """The CR LF pairs in the first `end` bytes; `bytes.count` is slow where every line has one."""
    import numpy as np

    if buffer.find(_CR, 0, end) < 0:
        return 0
    text = np.frombuffer(buffer, dtype=np.uint8, count=end)
    pairs, feeds = scratch[0, : end - 1], scratch[1, : end - 1]
    np.equal(text[:-1], _CR, out=pairs)
    np.equal(text[1:], _LF, out=feeds)
    return int(np.count_nonzero(np.logical_and(pairs, feeds, out=pairs)))


def _first_bad(raw: bytes | memoryview) -> int | None:
    try:
        codecs.utf_8_decode(raw, "strict", True)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _utf8_name(head: bytes) -> str:
    return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"


def _marked_codec(head: bytes) -> str | None:
    return next((codec for mark, codec in _BOMS if head.startswith(mark)), None)


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


def _sample(path: Path, *, around: int) -> bytes:
    """The head of a file and what is around its first bad byte, whole lines where it can be."""
    with open_bytes(path) as stream:
        head = stream.read(2 * _HALF_SAMPLE)
        if len(head) < 2 * _HALF_SAMPLE or around < _HALF_SAMPLE:
            return head
        to_skip = around - _HALF_SAMPLE // 2 - len(head)
        if to_skip <= 0:
            return head + stream.read(_HALF_SAMPLE)
        while to_skip > 0 and (skipped := stream.read(min(_READ, to_skip))):
            to_skip -= len(skipped)
        window = stream.read(_HALF_SAMPLE)
        return head[:_HALF_SAMPLE] + b"\n" + window[window.find(b"\n") + 1 :]


def _guess(sample: bytes) -> _Guess:
    """What a text that isn't UTF-8 is: UTF-8 with damage, or one of the codecs we know, or none."""
    text = sample.decode("utf-8", errors="ignore")
    num_bad = len(sample) - len(text.encode())
    num_good = len(text) - len(text.encode("ascii", errors="ignore"))
    # In other encodings bytes form a UTF-8 character by chance only: for 100 bad bytes less than
    # one in cp1251, 12 in Russian cp866, up to 40 in Chinese and Japanese. More says it is UTF-8.
    if num_good >= num_bad:
        return _Guess(None, is_damaged_utf8=True)
    return _Guess(detect_codec(sample))


def _refuse_known_format(path: Path, head: bytes) -> None:
    """Raise a DataError if a file begins as images, archives and such do."""
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(f"{path} is not text but {kind}. Leave it out with data.exclude.")


def _refuse_binary(path: Path, sample: bytes) -> None:
    """Raise a DataError if the bytes of a file, which aren't UTF-8, aren't text at all."""
    _refuse_known_format(path, sample)
    control = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1a\x1b")
    num_control = len(sample) - len(sample.translate(None, delete=control))
    if 100 * num_control > len(sample):
        raise DataError(
            f"{path} is not text: {num_control:,} of {len(sample):,} bytes are control characters. "
            "Leave it out with data.exclude."
        )


def _refuse_nul(path: Path, *, offset: int, head: bytes) -> NoReturn:
    _refuse_known_format(path, head)
    where = f"NUL byte at offset {offset:,}"
    codec = _unmarked_codec(head)
    if codec is None:
        raise DataError(
            f"{path} is not a text file in UTF-8: {where}. Leave it out with data.exclude, or name "
            "its encoding in data.encoding."
        )
    name = codec.upper().replace("-LE", " LE").replace("-BE", " BE")
    raise DataError(
        f"{path} is not a text file in UTF-8: {where}; it looks like {name} without a byte order "
        f"mark. Use data.encoding: {codec}, or convert it (iconv -f {codec.upper()} -t UTF-8)."
    )


def _unmarked_codec(head: bytes) -> str | None:
    """UTF-16 or UTF-32, if the bytes that are a character's upper half hardly differ."""
    for width in (4, 2):
        whole = head[: min(len(head), 4096) // width * width]
        if len(whole) < 2 * width:
            continue
        for order, upper in (("le", whole[width - 1 :: width]), ("be", whole[::width])):
            codec = f"utf-{8 * width}-{order}"
            most = sum(sorted(map(upper.count, set(upper)))[-2:])  # of two alphabets, say
            if 0 in upper and 10 * most >= 9 * len(upper) and _is_prose(whole, codec):
                return codec
    return None


def _is_prose(raw: bytes, codec: str) -> bool:
    text = raw.decode(codec, errors="replace")[:-1]  # the last character may be cut
    odd = (char for char in text if not char.isprintable() and char not in "\ufeff\xad")
    return "\ufffd" not in text and all(char.isspace() for char in odd)


def _refuse_utf8(path: Path, flaw: _Flaw, guess: _Guess) -> NoReturn:
    where = f"0x{flaw.byte:02x} at offset {flaw.offset:,}"
    if guess.is_damaged_utf8:
        num_bad = _count_bad(path)
        noun = "byte" if num_bad == 1 else "bytes"
        raise DataError(
            f"{path} is UTF-8 but for {num_bad:,} {noun}, the first {where}. Repair it "
            "(iconv -c -f UTF-8 -t UTF-8 drops them), or leave it out with data.exclude."
        )
    problem = f"{path} is not a text file in UTF-8: byte {where}"
    if guess.codec is None:
        raise DataError(
            f"{problem}, and it reads as text in no known encoding. Name its encoding in "
            "data.encoding, or leave it out with data.exclude."
        )
    raise DataError(
        f"{problem}; it reads as {guess.codec}. Use data.encoding: auto, or data.encoding: "
        f"{guess.codec}, or convert it (iconv -f {_iconv_name(guess.codec)} -t UTF-8), or leave it "
        "out with data.exclude."
    )


def _count_bad(path: Path) -> int:
    """The bytes of a file that belong to no UTF-8 character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    num_bad, is_last = 0, False
    with open_bytes(path) as stream:
        while not is_last:
            raw = stream.read(_READ)
            is_last = len(raw) < _READ
            num_bad += len(raw) - len(decoder.decode(raw, is_last).encode())
    return num_bad


def _iconv_name(codec: str) -> str:
    """Our name of a codec -> iconv's.

    >>> _iconv_name("koi8_r"), _iconv_name("iso8859_5"), _iconv_name("cp1251")
    ('KOI8-R', 'ISO-8859-5', 'CP1251')
    """
    if codec == "mac_roman":
        return "MACINTOSH"
    return codec.replace("iso8859", "iso-8859").replace("_", "-").upper()


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} can't be read: {error.strerror or error}.")
