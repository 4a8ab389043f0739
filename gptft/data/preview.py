"""A block of the training split -> what a person sees of it: text, borders, and what is predicted.

In: a config and its prepared blocks. Out: a frozen `BlockPreview`, as JSON or for a terminal. What
a text holds never reaches a terminal raw: a control character is shown as its code point, a stray
byte as its digits. Must not import torch or transformers, and rich only to draw.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gptft.config.sections import Config
from gptft.data.pack import Prepared
from gptft.data.plan import plan_packing
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.terminal.text import visible
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space
from gptft.tokenization.token_ids import TokenIds
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

_EOS_MARK = "⏎ EOS"
_UNTRAINED = "dim underline"
# Of the 256 fixed colours a blue and a brown: contrast above 4 to 1 on black and on white, and
# told apart by those who can't tell red from green.
_COLOURS = ("color(31)", "color(130)")
_RUN = re.compile("[\udc80-\udcff]+|[^\n\t -~]")  # bytes that can't be decoded; all but plain ASCII
_JOINERS = "\u200c\u200d"  # emoji and Persian are raws with them; they do no harm
_MISPLACED = re.compile("⟨(?:[0-9a-f]{2}(?: [0-9a-f]{2})*|U\\+[0-9A-F]{4,6})⟩")


@dataclass(frozen=True)
class PreviewDocument(JsonFields):
    """The part of a document that lies in a block.

    Attributes:
        data: what its tokens spell, EOS left out; a character may be cut at either end.
        num_tokens: its tokens in the block, EOS among them.
        begins: whether it begins in the block.
        ends: whether its EOS is in the block.
        untrained: bytes in front whose token is never predicted, up to the end of a character.
        first_is_untrained: whether its first token, which may be EOS, is never predicted.
    """

    data: bytes
    num_tokens: int
    begins: bool
    ends: bool
    untrained: int
    first_is_untrained: bool

    json_names = ("text", "num_tokens", "begins", "ends")

    @property
    def text(self) -> str:
        """The text as it is, but for stray bytes and what JSON doesn't escape."""
        return _legible(self.data, keeps=lambda character: not "\x7f" <= character <= "\x9f")


@dataclass(frozen=True)
class BlockPreview(JsonFields):
    """One block of the training split, decoded.

    Attributes:
        block: its number, from 1.
        of: how many blocks there are, a shorter last one among them.
        block_size: tokens of a full block.
        token_ids: its tokens.
        documents: its documents, in order; their tokens add up to the block's.
        trained_tokens: its tokens that are predicted, and so trained on.
        eos: the text of the EOS token.
        isolated: whether documents don't see each other (data.isolate_documents).
        shifted: whether later epochs cut the text elsewhere (data.shift_blocks).
    """

    block: int
    of: int
    block_size: int
    token_ids: tuple[int, ...]
    documents: tuple[PreviewDocument, ...]
    trained_tokens: int
    eos: str
    isolated: bool
    shifted: bool

    json_names = ("block", "of", "num_tokens", "trained_tokens", "token_ids", "documents")

    @property
    def num_tokens(self) -> int:
        """Tokens of the block."""
        return len(self.token_ids)

    def render(self) -> "RenderableType":
        """For `console.print`: in colour on a terminal, plain and never wrapped off one."""
        return _Drawing(self)


def preview_block(config: Config, prepared: Prepared, number: int) -> BlockPreview:
    """Decode one block of the training split.

    Args:
        config: what the blocks were prepared by.
        prepared: the blocks.
        number: from 1, the shorter last block counted; -1 is the last, -2 the one before.

    Raises:
        ConfigError: there is no such block.
        DataError: the blocks can't be read.
        ModelError: the tokenizer can't be opened.
    """
    store = BlockStore(prepared.path)
    of = len(store)
    if not 1 <= abs(number) <= of:
        raise ConfigError(
            f"--preview {number}: there is no such block. The training split has "
            + (f"{of:,} blocks: give 1 to {of}" if of > 1 else "1 block: give 1")
            + ", or -1 for the last."
        )
    index = number - 1 if number > 0 else of + number
    plan = plan_packing(config)
    tokenizer = plan.tokenizer or load_tokenizer(str(prepared.path / "tokenizer"))
    eos_token_id = tokenizer.require_eos()
    isolated = plan.data.isolate_documents
    begins = index == 0 or int(store[index - 1][-1]) == eos_token_id
    documents = tuple(_documents(store[index], tokenizer, begins=begins, isolated=isolated))
    return BlockPreview(
        block=index + 1,
        of=of,
        block_size=prepared.ledger.block_size,
        token_ids=tuple(store[index].tolist()),
        documents=documents,
        trained_tokens=len(store[index]) - sum(d.first_is_untrained for d in documents),
        eos=_legible(tokenizer.special_tokens["eos_token"].encode(), keeps=_is_harmless),
        isolated=isolated,
        shifted=plan.data.shift_blocks and of > 1,
    )


def _documents(
    ids: TokenIds, tokenizer: TextTokenizer, *, begins: bool, isolated: bool
) -> Iterator[PreviewDocument]:
    """Cut a block of shape (T,) after every EOS; the bytes of what lies between."""
    eos_token_id = tokenizer.require_eos()
    written = TokenBytes.of(tokenizer.backend)
    bytes_by_id = {i: _with_space(i, written) for i in {*ids.tolist()}}
    cuts = [0, *(np.flatnonzero(ids == eos_token_id) + 1).tolist(), len(ids)]
    for start, end in pairwise(cuts):
        if start == end:
            continue
        ends = int(ids[end - 1]) == eos_token_id
        raws = [bytes_by_id[i] for i in ids[start : end - ends].tolist()]
        if (written.drops_first_space or written.prefix) and (begins or start):
            drop_first_space(raws)
        first_is_untrained = start == 0 or isolated
        yield PreviewDocument(
            data=b"".join(raws),
            num_tokens=end - start,
            begins=begins or start > 0,
            ends=ends,
            untrained=_first_bytes(raws) if first_is_untrained else 0,
            first_is_untrained=first_is_untrained,
        )


def _with_space(token_id: int, written: TokenBytes) -> bytes:
    """The bytes of a token, with a space where it has a mark for the edge of a word instead."""
    entry = written.backend.id_to_token(token_id) or ""
    before = written.prefix and not entry.startswith(written.prefix)
    after = written.suffix and entry.endswith(written.suffix)
    return b" " * bool(before) + written.of_entry(entry, token_id) + b" " * bool(after)


def _first_bytes(raws: list[bytes]) -> int:
    r"""The bytes of the first token, to the end of the character that it begins.

    >>> _first_bytes([b"a", b"b"]), _first_bytes([b"a\xd0", b"\xb4", b"b"])
    (1, 3)
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    length = 0
    for raw in raws:
        try:
            decoder.decode(raw)
        except UnicodeDecodeError:
            break
        length += len(raw)
        if not decoder.getstate()[0]:
            return length
    return len(raws[0]) if raws else 0


def _legible(data: bytes, *, keeps: Callable[[str], bool]) -> str:
    """Decode bytes; those of no character, and characters that `keeps` refuses, are raws out."""

    def show(match: re.Match[str]) -> str:
        run = match.group()
        if not "\udc80" <= run[0] <= "\udcff" and keeps(run):
            return run
        return visible(run.encode(errors="surrogateescape"))

    return _RUN.sub(show, data.decode(errors="surrogateescape"))


def _is_harmless(character: str) -> bool:
    """Whether a terminal shows a character and does nothing else: no control, no hidden turn."""
    return (
        character.isprintable() or unicodedata.category(character) == "Zs" or character in _JOINERS
    )


@dataclass(frozen=True)
class _Drawing:
    """A preview that is drawn to suit its console."""

    preview: BlockPreview

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment

        if console.is_terminal and not console.is_dumb_terminal:
            yield _coloured(self.preview, in_colour=not console.no_color)
        else:
            yield Segment(_plain(self.preview))  # a Text would turn tabs into spaces


def _plain(preview: BlockPreview) -> str:
    """Legend and text without colours; each EOS as its own text, then a line break."""
    texts = [_legible(document.data, keeps=_is_harmless) for document in preview.documents]
    legend = [_counts(preview)]
    if any(document.ends for document in preview.documents):
        raws = sum(text.count(preview.eos) for text in texts)
        legend.append(
            f"{preview.eos} and a line break stand where a document ends"
            + (
                f"; {raws:,} more {'stand' if raws > 1 else 'stands'} in the text itself."
                if raws
                else "."
            )
        )
    legend += [f"Never predicted: {_untrained(preview)}.", *_remarks(preview, "".join(texts))]
    bodies = [
        text + (f"{preview.eos}\n" if document.ends else "")
        for text, document in zip(texts, preview.documents, strict=True)
    ]
    return "\n".join([*legend, "", "".join(bodies).removesuffix("\n"), ""])


def _coloured(preview: BlockPreview, *, in_colour: bool) -> "Text":
    """Legend and text in styles, each EOS a border; the legend names colours if there are any."""
    from rich.text import Text

    drawn = Text(f"{_counts(preview)}\n")
    if any(document.ends for document in preview.documents):
        drawn.append(f" {_EOS_MARK} ", "reverse").append(" is where a document ends. ")
    if len(preview.documents) > 1 and in_colour:
        drawn.append("Neighbouring ").append("documents", _COLOURS[0]).append(" differ in ")
        drawn.append("colour", _COLOURS[1]).append(". ")
    drawn.append("Dim and underlined", _UNTRAINED).append(
        f", and never predicted: {_untrained(preview)}.\n"
    )
    body = Text()
    for number, document in enumerate(preview.documents):
        _draw(document, body, _COLOURS[number % len(_COLOURS)])
    drawn.append("".join(f"{remark}\n" for remark in _remarks(preview, body.plain)))
    if body.plain.endswith("\n"):
        body.right_crop(1)
    return drawn.append("\n").append(body)


def _draw(document: PreviewDocument, body: "Text", colour: str) -> None:
    """Append one document to `body`."""
    head = _legible(document.data[: document.untrained], keeps=_is_harmless)
    body.append(head.replace("\n", "↵\n"), f"{_UNTRAINED} {colour}")  # to underline a line break
    body.append(_legible(document.data[document.untrained :], keeps=_is_harmless), colour)
    if document.ends:
        untrained = document.first_is_untrained and document.num_tokens == 1
        style = f"reverse {colour} {_UNTRAINED if untrained else ''}"
        body.append(f" {_EOS_MARK} ", style).append("\n")


def _counts(preview: BlockPreview) -> str:
    """The first line of the legend.

    A block that begins or ends inside a document is said to, as nothing shows it.
    """
    documents, num_tokens = preview.documents, len(preview.token_ids)
    begin, end = sum(d.begins for d in documents), sum(d.ends for d in documents)
    shorter = ", the last and shorter" if num_tokens < preview.block_size else ""
    edges = [
        edge
        for edge, inside in (
            ("begins", not documents[0].begins),
            ("ends", not documents[-1].ends),
        )
        if inside
    ]
    return (
        f"Block {preview.block:,} of {preview.of:,} of the training split{shorter}: "
        f"{num_tokens:,} tokens, {preview.trained_tokens:,} of them predicted; "
        f"{begin or 'no'} {'documents begin' if begin > 1 else 'document begins'} in it, "
        f"{end or 'none'} {'end' if end > 1 else 'ends'}."
        + (f" It {' and '.join(edges)} inside a document." if edges else "")
    )


def _untrained(preview: BlockPreview) -> str:
    if preview.isolated:
        return "the first token of the block and of each document (data.isolate_documents)"
    return "the first token of the block"


def _remarks(preview: BlockPreview, text: str) -> list[str]:
    """What else there is to know of a block and of the text shown, a line each."""
    said = []
    if preview.shifted:
        said.append(
            "So it is cut in the first epoch; later epochs cut the text elsewhere "
            "(data.shift_blocks)."
        )
    if _MISPLACED.search(text):
        said.append(
            "⟨d0⟩ stands for a byte of a character that is cut, ⟨U+001B⟩ for a control character."
        )
    return said
