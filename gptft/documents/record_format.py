"""The texts of a config -> what their records are: texts, conversations, or prompts and answers.

It is told by the fields of each file's first record, and said.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gptft.config.data import DataConfig
from gptft.documents.conversations import MESSAGES, PAIR, RecordConversation, RecordFormat
from gptft.documents.formats.format import OpenedFile
from gptft.documents.formats.registry import format_of
from gptft.documents.records import RecordReader, RecordText
from gptft.documents.sources import FoundTexts, TextInput
from gptft.errors import DataError
from gptft.text.encoding import FileFacts, examine_text, read_chunks
from gptft.text.streams import NotTextError

_CHUNK_BYTES = 65_536
_PREFERENCES = ("chosen", "rejected")


@dataclass(frozen=True)
class FoundFormat:
    """What records are.

    Attributes:
        format: of all texts.
        said: a sentence on how that was found; "" where nobody would think otherwise.
        is_plain: whether they are prompts and completions of plain text.
    """

    format: RecordFormat
    said: str = ""
    is_plain: bool = False


class _Seen(NamedTuple):
    """What a text holds: its format, by what that is told, and what is to be said beside it."""

    format: RecordFormat
    by: str
    also: str = ""
    is_plain: bool = False


@dataclass(frozen=True)
class _Fields:
    """Gives a record's fields themselves; one without any of the known ones may hold records."""

    text_field: str

    def columns(self, there: Collection[str], where: str) -> tuple[str, ...]:
        return (*dict.fromkeys(there),)

    def fits(self, there: Collection[str]) -> bool:
        return any(name in there for name in (self.text_field, *MESSAGES, *PAIR, *_PREFERENCES))

    def type_problem(self, column: str, kind: Any) -> str | None:
        return None

    def of(self, record: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
        return record, where


def record_reader(data: DataConfig) -> RecordReader[Any]:
    """What makes a document of a record, by a config whose format is known; auto is text."""
    if data.format in ("messages", "prompt_completion"):
        return RecordConversation(data.format)
    return RecordText(data.text_field, data.template)


def find_format(found: FoundTexts, data: DataConfig) -> FoundFormat:
    """What the records of some texts are, as `data.format` says or by their fields.

    Raises:
        DataError: files of different kinds, text files where conversations are meant, or
            preference pairs.
    """
    if data.format == "text":
        return FoundFormat("text")
    if data.format == "auto" and (data.text_field != "text" or data.template):
        return FoundFormat("text")
    kinds: dict[RecordFormat, tuple[str, _Seen]] = {}  # each where it was seen first
    for text in found.texts:
        if (seen := _look(text, data)) is not None:
            kinds.setdefault(seen.format, (text.name, seen))
    if data.format != "auto":
        if plain := kinds.get("text"):
            raise DataError(
                f"{plain[0]}: data.format is {data.format}, and a text file has no records. Name "
                "files of records (.jsonl, .json, .parquet, .csv), or leave data.format out."
            )
        is_plain = any(one.is_plain for _, one in kinds.values())
        return FoundFormat(data.format, is_plain=is_plain)
    if len(kinds) > 1:
        each = "; ".join(f"{kind}, as {name} ({one.by})" for kind, (name, one) in kinds.items())
        raise DataError(
            f"The texts are of several kinds: {each}. A run takes one kind: set data.format, or "
            "name them in configs of their own."
        )
    if not kinds:
        return FoundFormat("text")
    ((format, (name, one)),) = kinds.items()
    if format == "text":
        return FoundFormat("text", f"{name}: {one.also}" if one.also else "")
    said = f"{name} holds {one.by}: data.format is {format}."
    return FoundFormat(format, said, one.is_plain)


def _look(text: TextInput, data: DataConfig) -> _Seen | None:
    """What one text holds; None for an empty file, and where it needn't be looked at."""
    if text.path is not None and not format_of(text.path).has_records:
        return _Seen("text", "a text file")
    if data.format == "messages":
        return None
    try:
        first = _first_record(text, data)
    except DataError:
        if data.format != "auto":
            return None
        # which reading it as text, what it is then taken for, will say
        return _Seen("text", "records of texts")
    return None if first is None else _of_record(*first, data)


def _of_record(record: Mapping[str, Any], where: str, data: DataConfig) -> _Seen:
    field = next((name for name in MESSAGES if isinstance(record.get(name), list)), None)
    is_pair = all(name in record for name in PAIR)
    is_plain = is_pair and isinstance(record["prompt"], str)
    if data.format == "prompt_completion":
        return _Seen("prompt_completion", "as data.format says", is_plain=is_plain)
    if data.text_field in record:
        also = ""
        if field is not None or is_pair:
            other = "messages" if field is not None else "prompt_completion"
            also = (
                f"records have a field {data.text_field!r}, which is trained on. What stands "
                f"beside it is with data.format: {other}."
            )
        return _Seen("text", f"the field {data.text_field!r}", also)
    if field is not None:
        return _Seen("messages", f"conversations, in the field {field!r}")
    if is_pair:
        by = "prompts and completions, in fields of these names"
        return _Seen("prompt_completion", by, is_plain=is_plain)
    if all(name in record for name in _PREFERENCES):
        raise DataError(
            f"{where} holds preference pairs, 'chosen' and 'rejected', which gptft doesn't train "
            "on. docs/preferences.md says how TRL goes on with a model of gptft's; to train on the "
            "better answers, rename 'chosen' to 'completion'."
        )
    return _Seen("text", "records of texts")


def _first_record(text: TextInput, data: DataConfig) -> tuple[Mapping[str, Any], str] | None:
    """The first record of a text with its place, or None where it has none."""
    fields = _Fields(data.text_field)
    if text.path is None:
        from gptft.documents.hub import HubSource, read_hub

        source = HubSource.parse(text.name)
        return next(read_hub(source, streaming=data.streaming, reader=fields), None)
    kind = format_of(text.path)
    if kind.read_records is None:
        return None
    encodings = ["utf-8-sig"] if data.encoding == "auto" else [data.encoding]
    for encoding in encodings:
        facts = FileFacts("", num_bytes=0, encoding=encoding, crlf=0)
        chunks = read_chunks(text.path, facts, line_ends=data.line_ends, chunk_bytes=_CHUNK_BYTES)
        try:
            return next(kind.read_records(OpenedFile(text.name, text.path, chunks), fields), None)
        except NotTextError:
            if data.encoding == "auto" and len(encodings) == 1:
                encodings.append(examine_text(text.path, encoding="auto").encoding)
    return None
