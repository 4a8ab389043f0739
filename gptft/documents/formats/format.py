"""What the registry knows of an input format, and what a format is given to read."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
        count_left_out: how much of each kind in a file isn't part of its text, such as notes; it
            reads all of the file, and raises what `read_records` would. None where all of it is.
        is_markup: whether the file is text that may say itself which encoding it is in.
        package: what it is read with, where that isn't installed with gptft.
        version: of what is read from the same bytes; one more whenever that changes, so that blocks
            made of what was read before are not used.
    """

    suffixes: tuple[str, ...]
    document: str
    read_records: Callable[[OpenedFile, RecordReader[Any]], Iterator[Any]] | None = None
    is_binary: bool = False
    count_left_out: Callable[[OpenedFile], Mapping[str, int]] | None = None
    is_markup: bool = False
    package: str = ""
    version: int = 1

    @property
    def has_records(self) -> bool:
        """Whether a file holds records of fields, and not text."""
        return self.read_records is not None and self.count_left_out is None


def book_format(
    suffixes: tuple[str, ...],
    document: str,
    read: Callable[[OpenedFile, Counter[str]], Iterator[str]],
    *,
    is_binary: bool = False,
    package: str = "",
    version: int = 1,
) -> Format:
    """A format for people to read: of a file only its text is taken, and the rest is counted.

    Args:
        suffixes: as `Format` has them.
        document: as `Format` has it.
        read: gives the documents of a file, and counts what it leaves out by its noun in the
            plural, such as "notes".
        is_binary: as `Format` has it.
        package: as `Format` has it.
        version: as `Format` has it.
    """

    def read_records(file: OpenedFile, reader: RecordReader[Any]) -> Iterator[str]:
        return read(file, Counter())

    def count_left_out(file: OpenedFile) -> Mapping[str, int]:
        left_out: Counter[str] = Counter()
        for _ in read(file, left_out):
            pass
        return dict(sorted((what, number) for what, number in left_out.items() if number))

    return Format(
        suffixes,
        document,
        read_records,
        is_binary=is_binary,
        count_left_out=count_left_out,
        is_markup=not is_binary,
        package=package,
        version=version,
    )
