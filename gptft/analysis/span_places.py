"""The text of spans -> the file, and the line or document, where each stands first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gptft.config.data import DataConfig
from gptft.documents.formats.registry import format_of
from gptft.documents.held_out import Mask
from gptft.documents.read import read_as_they_stand
from gptft.documents.scan import ScannedText
from gptft.documents.sources import VALIDATION


@dataclass(frozen=True)
class Place:
    """Where a span stands in the training text.

    Attributes:
        block: of the training split, from 1, as `gptft prepare --preview` counts them.
        file: the file, as its name is shown; None where that can't be said.
        line: of the file, from 1; None in a file of records.
        document: which of the records, from 1, empty ones left out; None in a file of text.
    """

    block: int
    file: str | None = None
    line: int | None = None
    document: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return f"block {self.block:,} of the training part"
        if self.line is None:
            return f"{self.file}, document {self.document:,}"
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class WantedSpan:
    """A span to find in the files.

    Attributes:
        text: the span with what stands around it.
        offset: where in the text the span begins.
        block: that holds it.
    """

    text: str
    offset: int
    block: int


def find_spans(
    texts: Sequence[ScannedText],
    data: DataConfig,
    wanted: Mapping[int, WantedSpan],
    *,
    held_out: Mask | None,
) -> dict[int, Place]:
    """The first place of each span in the documents of data.train that weren't held out."""
    found: dict[int, Place] = {}
    num_documents = 0  # of all texts so far: the validation split is drawn from all together
    for text in texts:
        if text.source.number == VALIDATION or len(found) == len(wanted):
            continue
        line, document, unread, is_blank = 1, 1, "", True
        path = text.source.path
        is_records = path is None or format_of(path).read_records is not None
        separator = "" if is_records else data.document_separator or ""
        for chunk, ends in read_as_they_stand(text, data):  # blank documents, too
            left = {number: span for number, span in wanted.items() if number not in found}
            longest = max((len(span.text) for span in left.values()), default=1)
            window = unread + chunk
            is_blank = is_blank and (not chunk or chunk.isspace())
            if held_out is None or not held_out[min(num_documents, len(held_out) - 1)]:
                for number, span in left.items():
                    if (at := window.find(span.text)) < 0:
                        continue
                    own_line = line + window.count("\n", 0, at + span.offset)
                    where = (None, document) if is_records else (own_line, None)
                    found[number] = Place(span.block, text.source.name, *where)
            # A span may begin at the end of this chunk.
            cut = len(window) if ends else max(len(window) - longest + 1, 0)
            line += window.count("\n", 0, cut)
            unread = window[cut:]
            if ends:
                line += separator.count("\n")
                document += not is_blank
                num_documents += not is_blank
                is_blank = True
    return found
