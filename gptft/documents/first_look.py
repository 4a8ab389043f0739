"""The texts of a config -> how many documents there are, or what is wrong with them, quickly.

A corpus of some megabytes is read through, so that what is said is what preparing will find. Of a
larger one only the first record of each file is looked at.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptft.config.data import DataConfig
from gptft.documents.conversations import Conversation
from gptft.documents.enough import nothing_held_out, nothing_to_train_on, share_size
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.registry import format_of
from gptft.documents.read import read_conversations, whole_documents
from gptft.documents.record_format import record_reader
from gptft.documents.scan import ScannedText, scan_texts
from gptft.documents.sources import VALIDATION, FoundTexts, TextInput
from gptft.errors import DataError
from gptft.text.encoding import FileFacts, read_chunks
from gptft.text.streams import NotTextError

_READ_THROUGH = 4_000_000  # bytes of all texts together
_TRIED = 5  # files that a sample of text is looked for in
_SAMPLE = 4_000  # characters of it
_BEGINNING = 1_000_000  # bytes of a file in which the first record must end to be looked at


class _BeginningOverError(Exception):
    """A reader asks for more than a file's beginning, whose end must not pass for the file's."""


@dataclass(frozen=True)
class DocumentCounts:
    """How many documents a config trains on and holds out."""

    train: int
    validation: int


def look_at_texts(found: FoundTexts, data: DataConfig, *, cache_dir: Path) -> DocumentCounts | None:
    """Look at the texts of a `data` section.

    Args:
        found: what it names.
        data: the section.
        cache_dir: where scans are remembered.

    Returns:
        the documents there are; None where only preparing can count them.

    Raises:
        DataError: a text can't be read, a record lacks a field, there is nothing to train on, or
            too few documents to hold a share of them out.
    """
    is_hub = any(text.path is None for text in found.texts)
    if not is_hub and found.num_bytes <= _READ_THROUGH:
        return _count(found, data, cache_dir=cache_dir)
    for text in found.texts:
        _look_at_first_record(text, data)
    return None


def _count(found: FoundTexts, data: DataConfig, *, cache_dir: Path) -> DocumentCounts:
    counts = {True: 0, False: 0}  # by whether they are held out by name
    for text in scan_texts(found.texts, data, cache_dir=cache_dir):
        counts[text.source.number == VALIDATION] += _num_documents(text, data)
    train, validation = counts[False], counts[True]
    if not train:
        raise nothing_to_train_on(data, num_files=found.num_train)
    if isinstance(data.validation, float):
        validation = share_size(train, data, fraction=data.validation)
        train -= validation
    elif data.validation is not None and not validation:
        raise nothing_held_out(data)
    return DocumentCounts(train, validation)


def _num_documents(text: ScannedText, data: DataConfig) -> int:
    """How many documents, or conversations of which something is learned."""
    if not data.holds_conversations:
        return sum(1 for _ in whole_documents(text, data))
    learns_all = data.loss_on == "all"
    return sum(learns_all or chat.num_answers > 0 for chat in read_conversations(text, data))


def _look_at_first_record(text: TextInput, data: DataConfig) -> None:
    """Refuse a file whose first record lacks a field, or a dataset that can't be found."""
    if text.path is None:
        from gptft.documents.hub import HubSource, hub_fingerprint

        hub_fingerprint(HubSource.parse(text.name), streaming=data.streaming)
        return
    kind = format_of(text.path)
    if kind.read_records is None:
        return
    file = OpenedFile(text.name, text.path, _beginning(text.path, data))
    records = kind.read_records(file, record_reader(data))
    # In another encoding, which scanning recognises, or longer than what is looked at.
    with suppress(NotTextError, _BeginningOverError):
        next(records, None)


def sample_text(found: FoundTexts, data: DataConfig) -> str:
    """The beginning of the first document that is quickly read; empty where none is."""
    for text in found.texts[:_TRIED]:
        if text.path is None:
            continue
        chunks, kind = _beginning(text.path, data), format_of(text.path)
        documents: Iterator[str] = chunks
        if kind.read_records is not None:
            file = OpenedFile(text.name, text.path, chunks)
            records = kind.read_records(file, record_reader(data))
            documents = (r.text if isinstance(r, Conversation) else r for r in records)
        with suppress(DataError, _BeginningOverError):
            if sample := next(documents, "")[:_SAMPLE].strip():
                return sample
    return ""


def _beginning(path: Path, data: DataConfig) -> Iterator[str]:
    """The text of a file as one chunk, as far as it is looked at.

    Raises:
        NotTextError: it isn't UTF-8.
        _BeginningOverError: where more is read and the file isn't over.
    """
    utf_8 = FileFacts("", num_bytes=0, encoding="utf-8-sig", crlf=0)
    chunks = read_chunks(path, utf_8, line_ends=data.line_ends, chunk_bytes=_BEGINNING)
    yield next(chunks, "")
    for _ in chunks:
        raise _BeginningOverError
