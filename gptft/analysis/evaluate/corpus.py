"""Names of texts, standard input among them -> documents, each with the place where it begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gptft.config.data import DataConfig
from gptft.console import Notify, silent
from gptft.documents.conversations import Conversation
from gptft.documents.corpus import find_corpus
from gptft.documents.formats.plain_text import Chunk, cut_text
from gptft.documents.formats.registry import format_of
from gptft.documents.read import read_as_they_stand, read_conversations
from gptft.documents.record_format import find_format
from gptft.documents.scan import Progress, ScannedText
from gptft.documents.sources import FoundTexts
from gptft.errors import DataError
from gptft.terminal.words import account_of_skipped
from gptft.text.encoding import read_stdin

STANDARD_INPUT = "-"
_NAME_OF_INPUT = "standard input"


class Document(NamedTuple):
    """A text that isn't blank.

    Attributes:
        text: as it stands in its source.
        source: the number of the source.
        line: of the source, from 1, where its text begins; 0 in a source of records.
        number: which of the source's documents, from 1, blank ones left out.
        conversation: what is said in it, of which answers are counted; None of a text.
    """

    text: str
    source: int
    line: int
    number: int
    conversation: Conversation | None = None


@dataclass(frozen=True)
class Corpus:
    """Texts that can be read again and again.

    Attributes:
        data: how they are read.
        texts: files and datasets.
        typed: what came from standard input; None where nothing was asked of it.
    """

    data: DataConfig
    texts: Sequence[ScannedText]
    typed: str | None

    @property
    def holds_chats(self) -> bool:
        """Whether documents are conversations, or prompts with their completions."""
        return self.data.format not in ("auto", "text")

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The names of all sources, in the order of their documents."""
        names = [text.source.name for text in self.texts]
        return (*names, *([] if self.typed is None else [_NAME_OF_INPUT]))

    @cached_property
    def num_bytes(self) -> int:
        """The size of all sources; that of a dataset of the hub isn't known, and is 0."""
        typed = 0 if self.typed is None else len(self.typed.encode())
        return sum(text.facts.num_bytes for text in self.texts) + typed

    def documents(self) -> Iterator[Document]:
        """All documents that aren't blank, source by source.

        Raises:
            DataError: a record is wrong, or a file changed since it was found.
        """
        for number, text in enumerate(self.texts):
            if self.holds_chats:
                yield from _conversations(text, self.data, source=number)
                continue
            path = text.source.path
            is_plain = path is not None and format_of(path).read_records is None
            chunks = read_as_they_stand(text, self.data)
            yield from _placed(chunks, self.data, source=number, is_plain=is_plain)
        if self.typed is not None:
            chunks = cut_text([self.typed], self.data)
            yield from _placed(chunks, self.data, source=len(self.texts), is_plain=True)


def open_corpus(
    names: Sequence[str],
    data: DataConfig | None = None,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    notify: Notify = silent,
) -> Corpus:
    """Find and scan the texts that names stand for.

    Args:
        names: files, folders, globs, `hub:` datasets, and `-` for standard input.
        data: how they are read, whatever it names itself; as they stand if not given.
        cache_dir: where scans are remembered; the user's own cache by default.
        progress: told ("reading", bytes done, bytes in all).
        notify: told which files were skipped.

    Raises:
        ConfigError: no name, or an empty one.
        DataError: some name nothing, or can't be read.
    """
    files = [name for name in names if name != STANDARD_INPUT]
    texts: Sequence[ScannedText] = ()
    if files or not names:
        data, texts, skipped = find_corpus(files, data=data, cache_dir=cache_dir, progress=progress)
        found = find_format(FoundTexts(tuple(text.source for text in texts), {}), data)
        data = data.model_copy(update={"format": found.format})
        if found.format != "text":
            notify(f"{found.said} Answers alone are counted, by each model's own chat template.")
        if skipped:
            notify(f"Skipped: {account_of_skipped(skipped)}.")
    typed = read_stdin() if len(files) < len(names) else None
    if typed is not None and not typed.strip():
        raise DataError("Standard input holds no text. Send one, or name a file with --data.")
    return Corpus(data or DataConfig.model_validate({"train": [STANDARD_INPUT]}), texts, typed)


def place(source: str, *, line: int, number: int) -> str:
    """Where a document begins, in words.

    >>> place("a.txt", line=12, number=3), place("a.jsonl", line=0, number=1200)
    ('a.txt:12', 'a.jsonl, document 1,200')
    """
    return f"{source}:{line}" if line else f"{source}, document {number:,}"


def _conversations(text: ScannedText, data: DataConfig, *, source: int) -> Iterator[Document]:
    for number, conversation in enumerate(read_conversations(text, data), start=1):
        yield Document(conversation.text, source, 0, number, conversation)


def _placed(
    chunks: Iterator[Chunk], data: DataConfig, *, source: int, is_plain: bool
) -> Iterator[Document]:
    between = (data.document_separator or "").count("\n")
    held: list[str] = []
    line, number = 1, 0
    for chunk, ends in chunks:
        held.append(chunk)
        if not ends:
            continue
        text, held = "".join(held), []
        if text and not text.isspace():
            number += 1
            blank_lines = text.count("\n", 0, len(text) - len(text.lstrip()))
            yield Document(text, source, line + blank_lines if is_plain else 0, number)
        line += text.count("\n") + between
