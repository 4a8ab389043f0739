"""The table of input formats: a new one is a file beside this one and an entry here."""

from pathlib import Path

from gptft.documents.formats import arrow, delimited, json_lines, json_values, parquet, plain_text
from gptft.documents.formats.format import Format
from gptft.text.streams import content_suffix

_MODULES = (plain_text, json_lines, json_values, delimited, parquet, arrow)
FORMATS: tuple[Format, ...] = tuple(module.FORMAT for module in _MODULES)
_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)


def format_of(path: Path) -> Format:
    """The format of a file by its name, compression aside; plain text where no format has it."""
    return _BY_SUFFIX.get(content_suffix(path), plain_text.FORMAT)
