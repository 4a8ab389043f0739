"""The table of input formats: a new one is a file beside this one and an entry here."""

from functools import lru_cache
from pathlib import Path

from gptft.documents.formats import (
    arrow,
    delimited,
    docx,
    epub,
    fiction_book,
    html,
    json_lines,
    json_values,
    parquet,
    plain_text,
)
from gptft.documents.formats.format import Format
from gptft.text.streams import uncompressed_name

_MODULES = (
    plain_text, json_lines, json_values, delimited, parquet, arrow, fiction_book, epub, html, docx,
)  # fmt: skip
FORMATS: tuple[Format, ...] = (
    *(module.FORMAT for module in _MODULES),
    fiction_book.ZIPPED,
    html.XHTML,
)
_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
_OF_TWO = tuple(suffix for suffix in SUFFIXES if suffix.count(".") > 1)


def format_of(path: Path) -> Format:
    """The format of a file by its name, compression aside; plain text where no format has it."""
    return _BY_SUFFIX.get(suffix_of(path), plain_text.FORMAT)


def suffix_of(path: Path) -> str:
    """What of a file's name says its format, in small letters: two suffixes where it takes both.

    >>> [suffix_of(Path(name)) for name in ("a.FB2.zip", "a.zip", "a.jsonl.gz")]
    ['.fb2.zip', '.zip', '.jsonl']
    """
    name = path.name
    at = name.find(".")
    return _suffix_of(f"_{name[at:]}" if at > 0 else name)


@lru_cache(maxsize=1024)  # a corpus may have a hundred thousand files, and is asked six times
def _suffix_of(name: str) -> str:
    name, last = uncompressed_name(name.lower())
    return next((two for two in _OF_TWO if last and name.endswith(two)), last)
