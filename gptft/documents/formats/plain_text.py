"""Text in chunks -> its documents, cut at separators, at headings, or not at all."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gptft.config.data import DataConfig
from gptft.documents.formats.format import Format
from gptft.errors import ConfigError

_SHOWN = 40  # characters of a line in a message
_LONGEST_HEADING = 1_000  # characters; a longer line is text, so that it need not be held whole


class Chunk(NamedTuple):
    """A stretch of a document; an empty document is one empty chunk."""

    text: str
    ends: bool  # whether the document ends with it


def cut_text(chunks: Iterable[str], data: DataConfig) -> Iterator[Chunk]:
    """Cut a text file into documents as `data` says: at headings, at separators, or not at all."""
    if data.document_heading is not None:
        return split_at_headings(chunks, is_heading=_heading_matcher(data.document_heading))
    return split_documents(chunks, separator=data.document_separator)


def _heading_matcher(heading: str) -> Callable[[str], bool]:
    from gptft.text.patterns import TooSlow, bounded_fullmatch, compile_like_re  # few texts need it

    matches = bounded_fullmatch(compile_like_re(heading))

    def is_heading(line: str) -> bool:
        try:
            return matches(line)
        except TooSlow:
            raise ConfigError(
                f"data.document_heading takes too long to match a line of {len(line):,} "
                f"characters, {line[:_SHOWN]!r}. Repeats within a repeat do that, such as "
                "(a|aa)+; write it without."
            ) from None

    return is_heading


def split_documents(chunks: Iterable[str], *, separator: str | None) -> Iterator[Chunk]:
    r"""Cut a text into documents.

    Args:
        chunks: the text in chunks of any length.
        separator: the exact text between two documents, which belongs to neither; None for one
            document.

    >>> [*split_documents(["a\n--", "-\nb"], separator="\n---\n")]
    [Chunk(text='a', ends=True), Chunk(text='b', ends=True)]
    """
    if separator is None:
        held: str | None = None
        for chunk in chunks:
            if held is not None:
                yield Chunk(held, False)
            held = chunk
        yield Chunk(held or "", True)
        return
    overlap = len(separator) - 1  # a separator may begin in one chunk and end in the next
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(separator)
        for document in whole:
            yield Chunk(document, True)
        if (cut := len(rest) - overlap) > 0:
            yield Chunk(rest[:cut], False)
            rest = rest[cut:]
    yield Chunk(rest, True)


def split_at_headings(
    chunks: Iterable[str], *, is_heading: Callable[[str], bool]
) -> Iterator[Chunk]:
    r"""Cut a text where its chapters begin. Nothing is left out: the documents joined are the text.

    Args:
        chunks: the text in chunks of any length.
        is_heading: whether a line is one, without the white space around it. It is asked of lines
            of at most 1,000 characters that stand at the start of the text or after a blank line.
            Several with only blank lines between them begin one document.

    >>> [*split_at_headings(["I\n\nОдин.\n\nII\n\nДва."], is_heading=str.isupper)]
    [Chunk(text='I\n\nОдин.\n\n', ends=True), Chunk(text='II\n\nДва.', ends=True)]
    """
    held: list[str] = []  # what was read of the document since the last chunk
    has_text = False  # whether the document has more than headings so far
    rest, is_long = "", False  # a line that isn't over yet, and whether its beginning was handed on
    after_blank = True
    for chunk in chunks:
        if held:
            yield Chunk("".join(held), False)
            held = []
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            if after_blank and not is_long and _begins(line, is_heading):
                if has_text:
                    yield Chunk("".join(held), True)
                    held, has_text = [], False
                after_blank = False
            else:
                is_blank = not line.strip()
                has_text = has_text or not is_blank
                after_blank = is_blank and not is_long and len(line) <= _LONGEST_HEADING
            held.append(f"{line}\n")
            is_long = False
        if len(rest) > _LONGEST_HEADING:
            held.append(rest)
            has_text, is_long, rest = has_text or not rest.isspace(), True, ""
    if has_text and after_blank and not is_long and _begins(rest, is_heading):
        yield Chunk("".join(held), True)
        held = []
    yield Chunk("".join([*held, rest]), True)


def _begins(line: str, is_heading: Callable[[str], bool]) -> bool:
    text = line.strip()
    return bool(text) and len(line) <= _LONGEST_HEADING and is_heading(text)


FORMAT = Format(
    (".txt", ".md"),
    "the file, the text between two `document_separator`, or a chapter by `document_heading`",
)
