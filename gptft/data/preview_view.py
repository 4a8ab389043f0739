"""A previewed block -> what a person sees of it: in colour on a terminal, plain off one."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gptft.data.preview import BlockPreview, PreviewDocument
from gptft.terminal.draw import Drawn, has_colour
from gptft.terminal.text import harmless
from gptft.terminal.words import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

_EOS_MARK = "⏎ EOS"
_UNTRAINED = "dim underline"
# Of conversations what is trained on, and what is only read; off a terminal the first in brackets.
_TRAINED, _READ = "bold", "dim"
_BRACKETS = ("⟦", "⟧")
# Of the 256 fixed colours a blue and a brown: contrast above 4 to 1 on black and on white, and
# told apart by those who can't tell red from green.
_COLOURS = ("color(31)", "color(130)")
_MISPLACED = re.compile("⟨(?:[0-9a-f]{2}(?: [0-9a-f]{2})*|U\\+[0-9A-F]{4,6})⟩")


def preview_view(preview: BlockPreview) -> Drawn:
    """A block for `console.print`, never wrapped off a terminal."""

    def draw(console: "Console", width: int) -> "Iterator[Text | Segment]":
        from rich.segment import Segment

        if console.is_terminal and not console.is_dumb_terminal:
            yield _coloured(preview, in_colour=has_colour(console))
        else:
            yield Segment(_plain(preview))  # a Text would turn tabs into spaces

    return Drawn(draw)


def _plain(preview: BlockPreview) -> str:
    """Legend and text without colours; each EOS as its own text, then a line break."""
    texts = [_plain_text(document) for document in preview.documents]
    legend = [_counts(preview)]
    if any(document.ends for document in preview.documents):
        more = sum(text.count(preview.eos) for text in texts)
        also = f"; {more:,} more {'stand' if more > 1 else 'stands'} in the text itself" * (
            more > 0
        )
        legend.append(f"{preview.eos} and a line break stand where a document ends{also}.")
    legend.append(f"Never predicted: {_untrained(preview)}.")
    if preview.trained is not None:
        legend.append(f"Trained on: what stands in {' '.join(_BRACKETS)}; the rest is only read.")
    legend += _remarks(preview, "".join(texts))
    bodies = [
        text + (f"{_plain_end(document, preview.eos)}\n" if document.ends else "")
        for text, document in zip(texts, preview.documents, strict=True)
    ]
    return "\n".join([*legend, "", "".join(bodies).removesuffix("\n"), ""])


def _plain_text(document: PreviewDocument) -> str:
    """The text of a document, what is trained on in brackets where not all is."""
    if document.parts is None:
        return harmless(document.data)
    return "".join(
        harmless(data).join(_BRACKETS if is_trained else ("", ""))
        for data, is_trained in document.parts
    )


def _plain_end(document: PreviewDocument, eos: str) -> str:
    """The EOS of a document, in brackets where it is trained on and not all is."""
    is_marked = document.parts is not None and document.end_is_trained
    return eos.join(_BRACKETS) if is_marked else eos


def _coloured(preview: BlockPreview, *, in_colour: bool) -> "Text":
    """Legend and text in styles, each EOS a border; the legend names colours if there are any."""
    from rich.text import Text

    drawn = Text(f"{_counts(preview)}\n")
    if any(document.ends for document in preview.documents):
        drawn.append(f" {_EOS_MARK} ", "reverse").append(" is where a document ends. ")
    if len(preview.documents) > 1 and in_colour:
        drawn.append("Neighbouring ").append("documents", _COLOURS[0]).append(" differ in ")
        drawn.append("colour", _COLOURS[1]).append(". ")
    if preview.trained is None:
        drawn.append("Dim and underlined", _UNTRAINED).append(", and never")
    else:
        drawn.append("Bold", _TRAINED).append(" is trained on, ")
        drawn.append("dim", _READ).append(" is only read. Never")
    drawn.append(f" predicted: {_untrained(preview)}.\n")
    body = Text()
    for number, document in enumerate(preview.documents):
        _draw(document, body, _COLOURS[number % len(_COLOURS)])
    drawn.append("".join(f"{remark}\n" for remark in _remarks(preview, body.plain)))
    if body.plain.endswith("\n"):
        body.right_crop(1)
    return drawn.append("\n").append(body)


def _draw(document: PreviewDocument, body: "Text", colour: str) -> None:
    """Append one document to `body`."""
    if document.parts is not None:
        for data, is_trained in document.parts:
            body.append(harmless(data), f"{_TRAINED if is_trained else _READ} {colour}")
        if document.ends:
            style = _TRAINED if document.end_is_trained else _READ
            body.append(f" {_EOS_MARK} ", f"reverse {colour} {style}").append("\n")
        return
    head = harmless(document.data[: document.untrained])
    body.append(head.replace("\n", "↵\n"), f"{_UNTRAINED} {colour}")  # to underline a line break
    body.append(harmless(document.data[document.untrained :]), colour)
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
    padding = preview.padding_tokens
    shorter = ", the last and shorter" if num_tokens + padding < preview.block_size else ""
    padded = f" and {padding:,} of padding, not shown" if padding else ""
    edges = ["begins"] * (not documents[0].begins) + ["ends"] * (not documents[-1].ends)
    return (
        f"Block {preview.block:,} of {preview.of:,} of the training split{shorter}: "
        f"{count(num_tokens, 'token')}{padded}, {preview.trained_tokens:,} of them predicted; "
        f"{begin or 'no'} {'documents begin' if begin > 1 else 'document begins'} in it, "
        f"{end or 'none'} {'end' if end > 1 else 'ends'}."
        + (f" It {' and '.join(edges)} inside a document." if edges else "")
    )


def _untrained(preview: BlockPreview) -> str:
    others = " and of each document (data.isolate_documents)" if preview.isolated else ""
    return f"the first token of the block{others}"


def _remarks(preview: BlockPreview, text: str) -> list[str]:
    """What else there is to know of a block and of the text shown, a line each."""
    said = []
    if preview.bos:
        said.append(f"Each document begins with {preview.bos} (BOS), which isn't shown.")
    if number := preview.num_pieces:
        some = "1 part of it is a further piece"
        if number > 1:
            some = f"{number:,} parts of it are further pieces"
        said.append(f"{some} of documents that are longer than a block.")
    if preview.shifted:
        said.append(
            "So it is cut in the first epoch; later epochs cut the text elsewhere "
            "(data.shift_blocks)."
        )
    if preview.shuffled:
        said.append(
            "So it is in the store; each epoch cuts its blocks from the documents in another order "
            "(data.shuffle_documents)."
        )
    if _MISPLACED.search(text):
        said.append(
            "⟨d0⟩ stands for a byte of a character that is cut, ⟨U+001B⟩ for a control character."
        )
    return said
