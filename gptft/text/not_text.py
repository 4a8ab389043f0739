"""Bytes that aren't UTF-8 text -> the codec they are in, or the error that says what they are."""

import codecs
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from gptft.text.streams import LEAVE_OUT, READ_BYTES, ByteSource, NotTextError

_HALF_SAMPLE = 512 * 1024  # bytes of the head, and around the first bad one, to detect a codec by
_NAME_ENCODING = "name its encoding in data.encoding"

_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF"),
    (b"{\\rtf", "RTF"),
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


READABLE_FORMATS = (b"{\\rtf", b"%PDF-")  # that may be UTF-8 from end to end


@dataclass(frozen=True)
class Flaw:
    """The first byte that isn't UTF-8: where it is and what it is."""

    offset: int
    byte: int


def find_codec(source: ByteSource, flaw: Flaw, *, marked: str | None, may_guess: bool) -> str:
    """The codec of text that isn't UTF-8.

    Args:
        source: the text.
        flaw: why it isn't UTF-8.
        marked: the codec that its byte order mark names, if it has one.
        may_guess: whether other codecs than UTF-8 are welcome.

    Raises:
        NotTextError: they aren't, or it is no text, damaged UTF-8, or in no codec that is known.
    """
    codec = marked
    if codec is None:
        sample = _sample(source, around=flaw.offset)
        _refuse_binary(source, sample)
        if _is_damaged_utf8(sample):
            _refuse_damaged(source, flaw)
        from gptft.text.detection import detect_codec  # it loads `regex`, which few texts need

        codec = detect_codec(sample)
    problem = (
        f"{source.name} is not {source.noun} in UTF-8: byte 0x{flaw.byte:02x} at offset "
        f"{flaw.offset:,}"
    )
    if codec is None:
        raise NotTextError(
            f"{problem}, and it reads as text in no known encoding", _NAME_ENCODING, LEAVE_OUT
        )
    if not may_guess:
        raise NotTextError(
            f"{problem}; it reads as {codec}",
            "use data.encoding: auto",
            f"data.encoding: {codec}",
            f"convert it (iconv -f {_iconv_name(codec)} -t UTF-8)",
            LEAVE_OUT,
        )
    return codec


def refuse_nul(source: ByteSource, *, offset: int, head: bytes) -> NoReturn:
    """Say what bytes with a NUL in them are, `head` the first of them.

    Raises:
        NotTextError: always.
    """
    _refuse_known_format(source, head)
    problem = f"{source.name} is not {source.noun} in UTF-8: NUL byte at offset {offset:,}"
    codec = _unmarked_codec(head)
    if codec is None:
        raise NotTextError(problem, LEAVE_OUT, _NAME_ENCODING)
    name = codec.upper().replace("-LE", " LE").replace("-BE", " BE")
    raise NotTextError(
        f"{problem}; it looks like {name} without a byte order mark",
        f"use data.encoding: {codec}",
        f"convert it (iconv -f {codec.upper()} -t UTF-8)",
    )


def refuse_undecodable(source: ByteSource, codec: str, error: UnicodeError, end: int) -> NoReturn:
    """Say where bytes stop to be text in `codec`; `end` of them had been read.

    Raises:
        NotTextError: always.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise NotTextError(f"{source.name} is not {codec}: {error}", "name another data.encoding")
    # An incremental decoder's `object` is what it had kept and the last chunk: both end at `end`.
    offset = end - len(error.object) + error.start
    raise NotTextError(
        f"{source.name} is not {codec} to its end: byte 0x{error.object[error.start]:02x} at "
        f"offset {offset:,} ({error.reason})",
        "repair it",
        _NAME_ENCODING,
        LEAVE_OUT,
    )


def _sample(source: ByteSource, *, around: int) -> bytes:
    """The head of a file and what is around its first bad byte, whole lines where it can be."""
    near = range(around // _HALF_SAMPLE, around // _HALF_SAMPLE + 2)
    chunks = islice(enumerate(source.chunks(_HALF_SAMPLE)), near.stop)
    picked = {number: raw for number, raw in chunks if number == 0 or number in near}
    head, window = picked.pop(0), b"".join(picked.values())
    if near.start <= 1:  # one stretch
        return head + window
    return head + b"\n" + window[window.find(b"\n") + 1 :]


def _is_damaged_utf8(sample: bytes) -> bool:
    text = sample.decode("utf-8", errors="ignore")
    num_bad = len(sample) - len(text.encode())
    num_good = len(text) - len(text.encode("ascii", errors="ignore"))
    # In other encodings bytes form a UTF-8 character by chance only: for 100 bad bytes less than
    # one in cp1251, 12 in Russian cp866, up to 40 in Chinese and Japanese. More says it is UTF-8.
    return num_good >= num_bad


def _refuse_damaged(source: ByteSource, flaw: Flaw) -> NoReturn:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    num_bad = 0
    for raw in source.chunks(READ_BYTES):
        num_bad += len(raw) - len(decoder.decode(raw, len(raw) < READ_BYTES).encode())
    raise NotTextError(
        f"{source.name} is UTF-8 but for {num_bad:,} {'byte' if num_bad == 1 else 'bytes'}, the "
        f"first 0x{flaw.byte:02x} at offset {flaw.offset:,}",
        "repair it (iconv -c -f UTF-8 -t UTF-8 drops them)",
        LEAVE_OUT,
    )


def refuse_readable_format(source: ByteSource, head: bytes) -> None:
    """Refuse what is UTF-8 and yet no text a person reads: RTF, and a PDF without binary parts.

    Raises:
        NotTextError: as said.
    """
    if head.startswith(READABLE_FORMATS):
        _refuse_known_format(source, head)


def _refuse_known_format(source: ByteSource, head: bytes) -> None:
    """Raise if bytes begin as those of images, archives and such do."""
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is not None:
        raise NotTextError(
            f"{source.name} is not text but {kind}", *_conversion(source.name, kind), LEAVE_OUT
        )


def _conversion(name: str, kind: str) -> list[str]:
    """How to make text of a file that people read."""
    path = Path(name)
    target = path.with_suffix(".txt")
    if kind == "a PDF":
        return [f"convert it ({shlex.join(['pdftotext', name, str(target)])})"]
    if kind == "RTF" or path.suffix.lower() in (".docx", ".epub", ".odt"):
        reader = ["-f", "rtf"] if kind == "RTF" else []
        words = ["pandoc", *reader, "-t", "plain", "--wrap=none", name, "-o", str(target)]
        return [f"convert it ({shlex.join(words)})"]
    if kind == "an old Office document":
        words = ["libreoffice", "--headless", "--convert-to", "txt", name]
        return [f"convert it ({shlex.join(words)})"]
    if path.suffix.lower() == ".fb2" and kind.startswith("a zip"):
        return ["end its name in .fb2.zip"]
    return ["unpack it"] if "archive" in kind or kind in ("bzip2 data", "xz data") else []


def _refuse_binary(source: ByteSource, sample: bytes) -> None:
    """Raise if bytes, which aren't UTF-8, aren't text at all."""
    _refuse_known_format(source, sample)
    control = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1a\x1b")
    num_control = len(sample) - len(sample.translate(None, delete=control))
    if 100 * num_control > len(sample):
        raise NotTextError(
            f"{source.name} is not text: {num_control:,} of {len(sample):,} bytes are control "
            "characters",
            LEAVE_OUT,
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


def _iconv_name(codec: str) -> str:
    """Our name of a codec -> iconv's.

    >>> _iconv_name("koi8_r"), _iconv_name("iso8859_5"), _iconv_name("cp1251")
    ('KOI8-R', 'ISO-8859-5', 'CP1251')
    """
    if codec == "mac_roman":
        return "MACINTOSH"
    return codec.replace("iso8859", "iso-8859").replace("_", "-").upper()
