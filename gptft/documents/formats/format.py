"""What the registry knows of an input format, and what a format is given to read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.documents.records import RecordReader


@dataclass(frozen=True)
class OpenedFile:
    """A file to read.

    Attributes:
        name: as messages show it.
        path: where it is.
        chunks: its decoded text in chunks of any length, without a byte order mark; not to be read
            of a binary file.
    """

    name: str
    path: Path
    chunks: Iterator[str]


@dataclass(frozen=True)
class Format:
    """A kind of file that texts come in.

    Attributes:
        suffixes: lower-case, each with its dot; compression aside.
        document: what a document of it is, for the table in docs/corpus.md.
        read_records: the document of every record, in order and streamed, empty ones too. It
            raises a DataError at the first that can't be read, with its line and the way out. None
            where a file is text that `data` says how to cut. Of a large text file `config check`
            asks it for one record, and gives up when it reads beyond the file's beginning.
        is_binary: whether the file is no text, and `read_records` opens its path; such a file is
            refused where it is compressed.
        version: of what is read from the same bytes; one more whenever that changes, so that blocks
            made of what was read before are not used.
    """

    suffixes: tuple[str, ...]
    document: str
    read_records: Callable[[OpenedFile, RecordReader[Any]], Iterator[Any]] | None = None
    is_binary: bool = False
    version: int = 1
