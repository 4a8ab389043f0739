"""A scanned text -> its documents, in chunks of bounded size."""

from collections.abc import Iterable, Iterator

from gptft.config.data import DataConfig
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.plain_text import Chunk, cut_text
from gptft.documents.formats.registry import format_of
from gptft.documents.records import RecordText
from gptft.documents.scan import ScannedText
from gptft.text.encoding import read_chunks

_CHUNK_BYTES = 1_000_000  # more holds more memory, and is no faster


def read_documents(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    """Read all documents of one source, in order; one of nothing but white space is empty.

    Raises:
        DataError: a record is wrong, or the file changed since it was scanned.
    """
    return _without_blanks(read_as_they_stand(text, data))


def read_as_they_stand(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    """Read all documents of one source, in order, blank ones with their white space.

    Raises:
        DataError: a record is wrong, or the file changed since it was scanned.
    """
    text.check_unchanged()
    yield from _documents(text, data)
    text.check_unchanged()


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


def _documents(text: ScannedText, data: DataConfig) -> Iterator[Chunk]:
    path, record_text = text.source.path, RecordText(data.text_field, data.template)
    if path is None:
        from gptft.documents.hub import HubSource, read_hub

        source = HubSource.parse(text.source.name)
        records = read_hub(source, streaming=data.streaming, record_text=record_text)
        return (Chunk(record, True) for record in records)
    chunks = read_chunks(path, text.facts, line_ends=data.line_ends, chunk_bytes=_CHUNK_BYTES)
    read_records = format_of(path).read_records
    if read_records is None:
        return cut_text(chunks, data)
    file = OpenedFile(text.source.name, path, chunks)
    return (Chunk(record, True) for record in read_records(file, record_text))


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
