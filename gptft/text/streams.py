"""A file or bytes in memory -> a stream of decompressed bytes, with a name for messages."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from gptft.errors import DataError
from gptft.inputs import near_names

COMPRESSED_SUFFIXES = (".gz", ".zst")
READ_BYTES = 256 * 1024
_SMALL = 16 * 1024
LEAVE_OUT = "leave it out with data.exclude"


class NotTextError(DataError):
    """Bytes that can't be read as text.

    Args:
        problem: whose bytes, what is wrong, and where: a sentence without its full stop.
        ways_out: what to do, one of them; those with the name of a setting are for a corpus alone.
    """

    def __init__(self, problem: str, *ways_out: str) -> None:
        ways = ", or ".join(ways_out)
        super().__init__(f"{problem}. {ways[:1].upper()}{ways[1:]}.")
        self.problem, self.ways_out = problem, ways_out

    def without_settings(self) -> "NotTextError":
        """The same error for a text that is read without a config."""
        ways = [way for way in self.ways_out if "data." not in way]
        return NotTextError(self.problem, *(ways or ["give a text in UTF-8"]))


@dataclass(frozen=True)
class ByteSource:
    """Bytes that can be read from their start any number of times.

    Attributes:
        name: as messages show it.
        noun: what it should be: "a text file", or "text" where it is no file.
        open: opens a buffered stream of the decompressed bytes.
    """

    name: str
    noun: str
    open: Callable[[], BinaryIO]

    @classmethod
    def of_file(cls, path: Path) -> "ByteSource":
        """The bytes of a file, decompressed where its suffix is .gz or .zst."""
        return cls(str(path), "a text file", lambda: open_bytes(path))

    @classmethod
    def of_bytes(cls, raw: bytes, path: Path) -> "ByteSource":
        """The bytes that were read from a file, decompressed as its suffix says."""
        return cls(str(path), "a text file", lambda: open_bytes(path, raw))

    def chunks(self, num_bytes: int) -> Iterator[bytes]:
        """All bytes, `num_bytes` at a time; only the last chunk is shorter, and may be empty.

        Raises:
            DataError: they can't be read, or a compressed file is cut short or corrupt; a .zst file
                without checksums can hide corruption.
        """
        try:
            with self.open() as stream:
                # A small file takes a quarter of the time without room for a large chunk.
                raw = stream.read(min(num_bytes, _SMALL))
                if len(raw) == _SMALL < num_bytes:
                    raw += stream.read(num_bytes - _SMALL)
                while len(raw) == num_bytes:
                    yield raw
                    raw = stream.read(num_bytes)
                yield raw
        except (EOFError, OSError, zlib.error) as error:
            # BadGzipFile is an OSError; so is what Arrow raises for a bad .zst, without an errno.
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(self.name, error) from None
            raise NotTextError(
                f"{self.name} is not an intact {Path(self.name).suffix.lower()} file: "
                f"{str(error).rstrip('.')}",
                "copy it again",
                LEAVE_OUT,
            ) from None


def content_suffix(path: Path) -> str:
    """The lower-case suffix of what a file holds, compression aside.

    >>> [content_suffix(Path(name)) for name in ("a.JSONL.gz", "a.txt", "a.gz")]
    ['.jsonl', '.txt', '']
    """
    return uncompressed_name(path.name.lower())[1]


def is_compressed(path: Path) -> bool:
    """Whether a file is decompressed to be read."""
    return path.name.lower().endswith(COMPRESSED_SUFFIXES)


def uncompressed_name(name: str) -> tuple[str, str]:
    """A file's name without the suffix of a compression, and the suffix that it then ends in.

    Args:
        name: in small letters. Not a path: pathlib takes ten times as long for the suffix of one,
            and a corpus may have a hundred thousand files.
    """
    if (last := _suffix(name)) in COMPRESSED_SUFFIXES:
        name = name.removesuffix(last)
        last = _suffix(name)
    return name, last


def _suffix(name: str) -> str:
    """What `Path(name).suffix` is."""
    at = name.rfind(".")
    return name[at:] if 0 < at < len(name) - 1 else ""


def open_bytes(path: Path, content: bytes | None = None) -> BinaryIO:
    """Open a buffered stream of a file's bytes, decompressed where its suffix is .gz or .zst.

    Args:
        path: the file.
        content: its bytes, where they have been read.

    Raises:
        OSError: the file can't be opened.
    """
    suffix = _suffix(path.name.lower())
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path if content is None else io.BytesIO(content), "rb"))
    raw = path.open("rb") if content is None else io.BytesIO(content)
    if suffix != ".zst":
        return raw
    import pyarrow as pa  # slow to import

    stream = pa.input_stream(raw, compression="zstd")
    return io.BufferedReader(stream, buffer_size=READ_BYTES)


def unreadable(name: str | Path, error: OSError) -> DataError:
    """The error for a file that the system can't read."""
    near = near_names(name) if isinstance(error, FileNotFoundError) else ""
    return DataError(f"{name} can't be read: {error.strerror or error}.{near}")
