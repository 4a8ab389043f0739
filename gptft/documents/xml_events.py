"""XML in chunks -> a call for each tag and text, or the error that says where it breaks off.

Expat reads it, as a stream. Nothing outside the file is ever looked at, and a file that declares
entities of its own is refused: a kilobyte of them can stand for a gigabyte of text.
"""

from collections.abc import Iterable, Iterator, Mapping
from html.entities import html5
from typing import Any, Protocol
from xml.parsers import expat

from gptft.errors import DataError


class Handler(Protocol):
    """What is told of a document's tags and text, in their order."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends; every start has its end."""

    def text(self, data: str) -> None:
        """Some text, in pieces of any length."""


def feed_xml(
    chunks: Iterable[str | bytes], handler: Handler, *, name: str, namespaces: bool = False
) -> Iterator[None]:
    """Tell `handler` of all of a document, and yield after each chunk.

    Args:
        chunks: decoded text, whatever encoding it declares; or bytes in the one that it does.
        handler: tags and attributes come to it by their local names, or, with `namespaces`, as
            "namespace name".
        name: of the file, as messages show it.
        namespaces: see `handler`. Without it, an undeclared prefix is no error.

    Raises:
        DataError: it isn't well-formed, or declares entities; with its line.
    """
    parser = expat.ParserCreate(namespace_separator=" " if namespaces else None)
    parser.buffer_text = True
    parser.UseForeignDTD(True)  # else an entity of HTML, such as &nbsp;, is an error

    def refuse_entity(entity: str, *_: Any) -> None:
        raise DataError(
            f"{name}:{parser.CurrentLineNumber}: it declares an entity of its own, {entity!r}, "
            "which isn't read. Write what it stands for in its place."
        )

    def skipped(entity: str, is_parameter: bool) -> None:
        if is_parameter:
            return
        if (char := html5.get(f"{entity};")) is None:
            raise DataError(
                f"{name}:{parser.CurrentLineNumber}: &{entity}; is an entity that neither XML nor "
                "HTML has. Write what it stands for in its place."
            )
        handler.text(char)

    def start(tag: str, attributes: dict[str, str]) -> None:
        if not namespaces:
            tag = _local(tag)
            # A name without a prefix is the element's own, and stands before xlink:type's.
            own_last = sorted(attributes.items(), key=lambda pair: ":" not in pair[0])
            attributes = {_local(name): value for name, value in own_last}
        handler.start(tag, attributes)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: handler.end(tag if namespaces else _local(tag))
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = refuse_entity
    parser.SkippedEntityHandler = skipped
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            yield
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise _malformed(name, error) from None
    except (ValueError, LookupError) as error:  # of an encoding that Python hasn't for XML
        raise DataError(f"{name}: its XML can't be read: {error}. Save it in UTF-8.") from None


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _malformed(name: str, error: expat.ExpatError) -> DataError:
    reason = expat.errors.messages.get(error.code, str(error))
    if reason in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN):
        problem = "the XML ends before its text is over"
        way_out = "Get the file again"
    else:
        problem = f"not well-formed XML (column {error.offset + 1:,}: {reason})"
        way_out = "Mend that line"
    return DataError(
        f"{name}:{error.lineno}: {problem}. {way_out}, or leave it out with data.exclude."
    )
