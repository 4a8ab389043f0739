"""The table of input formats: a new one is a file beside this one and an entry here."""

from pathlib import Path

from gptft.documents.formats import delimited, json_lines, json_values, parquet, plain_text
from gptft.documents.formats.format import Format
from gptft.text.streams import content_suffix

FORMATS = (
    plain_text.FORMAT,
    json_lines.FORMAT,
    json_values.FORMAT,
    delimited.FORMAT,
    parquet.FORMAT,
)
SUFFIXES = tuple(suffix for format in FORMATS for suffix in format.suffixes)

_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}


def format_of(path: Path) -> Format:
    """The format of a file by its name, compression aside; plain text where no format has it."""
    return _BY_SUFFIX.get(content_suffix(path), plain_text.FORMAT)
