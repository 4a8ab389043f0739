"""A zip archive that a book comes in -> its parts, within bounds, or one line on what is wrong."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptft.errors import DataError
from gptft.text.streams import unreadable

# Books are 2 to 60 times smaller in an archive, bombs up to 1,000 times.
_MOST_TIMES = 100
_MOST_UNPACKED = 1_000_000_000  # bytes of text that any archive may hold
_ALWAYS_READ = 50_000_000  # bytes of text that an archive of any size may hold
_MOST_IN_MEMORY = 200_000_000  # bytes of a part that is read as one
_READ_BYTES = 1_000_000
_ENCRYPTED = 0x1  # of a part's flags


class ZipParts:
    """The parts of an archive.

    Attributes:
        name: of the archive, as messages show it.
        names: of all its parts, in order.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str, num_bytes: int) -> None:
        """Look at an opened archive of `num_bytes`."""
        self.name = name
        self._archive = archive
        self._by_name = {info.filename: info for info in archive.infolist()}
        self.names = tuple(self._by_name)
        self._room = min(_MOST_UNPACKED, max(_ALWAYS_READ, _MOST_TIMES * num_bytes))

    def where(self, part: str) -> str:
        """A part as messages show it."""
        return f"{self.name}/{part}"

    def chunks(self, part: str) -> Iterator[bytes]:
        """All bytes of a part, some at a time.

        Raises:
            DataError: it isn't there, is encrypted or damaged, or unpacks to more than a book has.
        """
        info = self._by_name.get(part)
        if info is None:
            raise DataError(
                f"{self.name}: there is no {part} in it, which it names itself. It isn't intact; "
                "get it again, or leave it out with data.exclude."
            )
        if info.flag_bits & _ENCRYPTED:
            raise DataError(
                f"{self.where(part)} is encrypted. Unpack it with its password, or leave the file "
                "out with data.exclude."
            )
        with self._archive.open(info) as stream:
            while chunk := stream.read(_READ_BYTES):
                self._room -= len(chunk)
                if self._room < 0:
                    raise DataError(
                        f"{self.where(part)} unpacks to over {_MOST_TIMES} times the size of the "
                        f"archive or to over {_MOST_UNPACKED // 10**9} GB, as no book does. Leave "
                        "the file out with data.exclude, or unpack it and name its text."
                    )
                yield chunk

    def read(self, part: str) -> bytes:
        """All bytes of a part.

        Raises:
            DataError: as `chunks`, and where there are too many to be held in memory.
        """
        read = bytearray()
        for chunk in self.chunks(part):
            read += chunk
            if len(read) > _MOST_IN_MEMORY:
                raise DataError(
                    f"{self.where(part)} has more than {_MOST_IN_MEMORY:,} bytes. Leave the file "
                    "out with data.exclude."
                )
        return bytes(read)


@contextmanager
def open_zip(path: Path, *, name: str, kind: str) -> Iterator[ZipParts]:
    """Open an archive.

    Args:
        path: the file.
        name: as messages show it.
        kind: what it should be, with its article, for messages.

    Raises:
        DataError: it can't be read, is none, or turns out to be damaged while it is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield ZipParts(archive, name, path.stat().st_size)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"{name} is not {kind}, or not an intact one ({reason}). Get it again, or leave it out "
            "with data.exclude."
        ) from None
    except OSError as error:
        if error.errno is None:
            raise DataError(f"{name} is not {kind}, or not an intact one ({error}).") from None
        raise unreadable(name, error) from None
