"""A scanned text -> its documents, in chunks of bounded size."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from gptft.config.data import DataConfig
from gptft.documents.conversations import Conversation
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.plain_text import Chunk, cut_text
from gptft.documents.formats.registry import format_of
from gptft.documents.record_format import record_reader
from gptft.documents.scan import ScannedText
from gptft.errors import DataError
from gptft.text.encoding import read_chunks

_CHUNK_BYTES = 1_000_000  # more holds more memory, and is no faster


def read_documents(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    """Read all documents of one source, in order; one of nothing but white space is empty.

    Raises:
        DataError: a record is wrong, or the file changed since it was scanned.
    """
    if (whole := _whole(text, data)) is not None:
        return iter((Chunk("" if whole.isspace() else whole, True),))
    return _without_blanks(read_as_they_stand(text, data))


def read_as_they_stand(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    """Read all documents of one source, in order, blank ones with their white space.

    Raises:
        DataError: a record is wrong, or the file changed since it was scanned.
    """
    text.check_unchanged()
    yield from _documents(text, data)
    text.check_unchanged()


def _whole(text: ScannedText, data: DataConfig) -> str | None:
    """The text of a small file whose content was kept and is one document, as it stands.

    Raises:
        DataError: the file changed since it was scanned.
    """
    cuts = data.document_separator is not None or data.document_heading is not None
    if text.content is None or cuts or data.line_ends != "keep":
        return None
    text.check_unchanged()
    return text.content.decode()


def whole_documents(text: ScannedText, data: DataConfig) -> Iterator[str]:
    """Read the documents of one source that aren't empty, each as one string.

    Raises:
        DataError: as `read_documents`.
    """
    chunks: list[str] = []
    for chunk, ends in read_documents(text, data):
        chunks.append(chunk)
        if ends:
            if document := "".join(chunks):
                yield document
            chunks = []


def read_conversations(text: ScannedText, data: DataConfig) -> Iterator[Conversation]:
    """Read all conversations of one source, in order.

    Raises:
        DataError: a record is wrong, or the file changed since it was scanned.
    """
    text.check_unchanged()
    yield from _records(text, data)
    text.check_unchanged()


def _documents(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    if text.source.path is not None and format_of(text.source.path).read_records is None:
        return cut_text(_chunks(text, data), data)
    records = _records(text, data)
    return (Chunk(r.text if isinstance(r, Conversation) else r, True) for r in records)


def _records(text: ScannedText, data: DataConfig) -> Iterator[Any]:
    """What `record_reader` makes of each record."""
    path, reader = text.source.path, record_reader(data)
    if path is None:
        from gptft.documents.hub import HubSource, read_hub

        source = HubSource.parse(text.source.name)
        return read_hub(source, streaming=data.streaming, reader=reader)
    read_records = format_of(path).read_records
    if read_records is None:
        raise DataError(f"{text.source.name} is a text file, which holds no records.")
    return read_records(OpenedFile(text.source.name, path, _chunks(text, data)), reader)


def _chunks(text: ScannedText, data: DataConfig) -> Iterator[str]:
    path = cast(Path, text.source.path)
    return read_chunks(path, text.facts, line_ends=data.line_ends, chunk_bytes=_CHUNK_BYTES)


def _without_blanks(fragments: Iterable[Chunk]) -> Iterator[Chunk]:
    """Make every document of nothing but white space one empty chunk."""
    blank: list[str] = []
    begun = False
    for text, ends in fragments:
        if begun or (text and not text.isspace()):
            yield Chunk("".join([*blank, text]) if blank else text, ends)
            blank.clear()
            begun = not ends
        elif ends:
            yield Chunk("", True)
            blank.clear()
        else:
            blank.append(text)
