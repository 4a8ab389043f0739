"""The texts of a config -> how many documents there are, or what is wrong with them, quickly.

A corpus of some megabytes is read through, so that what is said is what preparing will find. Of a
larger one only the first record of each file is looked at.
"""

from dataclasses import dataclass
from pathlib import Path

from gptft.config.sections import DataConfig
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.registry import format_of
from gptft.documents.read import whole_documents
from gptft.documents.records import RecordText
from gptft.documents.scan import scan_texts
from gptft.documents.sources import VALIDATION, FoundTexts, TextInput, no_text_in, share_size
from gptft.errors import DataError

_READ_THROUGH = 4_000_000  # bytes of all texts together
_HEAD = 1_000_000  # bytes of a file in which the first record must end


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
        counts[text.source.number == VALIDATION] += sum(1 for _ in whole_documents(text, data))
    train, validation = counts[False], counts[True]
    if not train:
        raise no_text_in(data, num_files=found.num_train)
    if isinstance(data.validation, float):
        validation = share_size(train, data, fraction=data.validation)
        train -= validation
    elif data.validation is not None and not validation:
        raise DataError("data.validation: no text in any of its files.")
    return DocumentCounts(train, validation)


def _look_at_first_record(text: TextInput, data: DataConfig) -> None:
    """Refuse a file whose first record lacks a field, or a dataset that can't be found."""
    if text.path is None:
        from gptft.documents.hub import HubSource, hub_fingerprint

        hub_fingerprint(HubSource.parse(text.name), streaming=data.streaming)
        return
    kind = format_of(text.path)
    if kind.read_records is None:
        return
    head = b""
    if not kind.is_binary:
        with text.path.open("rb") as file:
            head = file.read(_HEAD)
        if b"\n" not in head:  # the first record may end beyond it
            return
    try:
        chunks = iter([head[: head.rindex(b"\n") + 1].decode("utf-8-sig") if head else ""])
    except UnicodeDecodeError:  # another encoding, which scanning recognises
        return
    records = kind.read_records(
        OpenedFile(text.name, text.path, chunks), RecordText(data.text_field, data.template)
    )
    next(records, None)
