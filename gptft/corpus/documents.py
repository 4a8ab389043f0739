"""A surveyed text -> its documents, in pieces of bounded size.

In: a file or data set, and the `data` section. Out: pieces of text, each told apart by whether a
document ends with it, so that memory stays flat however long a document is. Knows nothing of
tokens.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gptft.config.sections import DataConfig
from gptft.corpus.encoding import content_suffix, read_chunks
from gptft.corpus.formats import RECORD_SUFFIXES, RecordText, read_parquet, read_records
from gptft.corpus.survey import SurveyedText

_CHUNK_BYTES = 1_000_000  # more holds more memory, and is no faster


class Piece(NamedTuple):
    """A stretch of a document; an empty document is one empty piece."""

    text: str
    ends: bool  # whether the document ends with it


def read_documents(text: SurveyedText, data: DataConfig) -> Iterator[Piece]:
    """Read all documents of one source, in order.

    Raises:
        DataError: a record is wrong, or the file changed since it was surveyed.
    """
    text.check_unchanged()
    fragments = _fragments(text, data)
    yield from _without_blanks(fragments)
    text.check_unchanged()


def _fragments(text: SurveyedText, data: DataConfig) -> Iterator[Piece]:
    path, record_text = text.source.path, RecordText(data.text_field, data.template)
    if path is None:
        from gptft.corpus.hub_texts import HubSource, read_hub

        source = HubSource.parse(text.source.name)
        records = read_hub(source, streaming=data.streaming, record_text=record_text)
        return (Piece(record, True) for record in records)
    suffix = content_suffix(path)
    if suffix == ".parquet":
        return (Piece(record, True) for record in read_parquet(path, record_text=record_text))
    chunks = read_chunks(path, text.facts, line_ends=data.line_ends, chunk_bytes=_CHUNK_BYTES)
    if suffix in RECORD_SUFFIXES:
        name = text.source.name
        records = read_records(chunks, suffix=suffix, name=name, record_text=record_text)
        return (Piece(record, True) for record in records)
    return split_documents(chunks, separator=data.document_separator)


def split_documents(chunks: Iterable[str], *, separator: str | None) -> Iterator[Piece]:
    r"""Cut a text into documents.

    Args:
        chunks: the text in stretches of any length.
        separator: the exact text between two documents, which belongs to neither; None for one
            document.

    >>> [*split_documents(["a\n--", "-\nb"], separator="\n---\n")]
    [Piece(text='a', ends=True), Piece(text='b', ends=True)]
    """
    if separator is None:
        held: str | None = None
        for chunk in chunks:
            if held is not None:
                yield Piece(held, False)
            held = chunk
        yield Piece(held or "", True)
        return
    overlap = len(separator) - 1  # a separator may begin in one chunk and end in the next
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(separator)
        for document in whole:
            yield Piece(document, True)
        if (cut := len(rest) - overlap) > 0:
            yield Piece(rest[:cut], False)
            rest = rest[cut:]
    yield Piece(rest, True)


def _without_blanks(fragments: Iterable[Piece]) -> Iterator[Piece]:
    """Make every document of nothing but white space one empty piece."""
    blank: list[str] = []
    begun = False
    for text, ends in fragments:
        if begun or (text and not text.isspace()):
            yield Piece("".join([*blank, text]) if blank else text, ends)
            blank.clear()
            begun = not ends
        elif ends:
            yield Piece("", True)
            blank.clear()
        else:
            blank.append(text)
