"""A file of a text -> all of it as one string."""

from pathlib import Path

from gptft.documents.corpus import find_corpus
from gptft.documents.formats.registry import format_of
from gptft.documents.read import whole_documents
from gptft.errors import DataError
from gptft.inputs import is_file
from gptft.text.encoding import read_text

_MAX_TEXT = 100_000_000  # characters that a command holds in memory


def read_whole_text(path: Path) -> str:
    """All of a text file; of a book or a page what training takes, chapters a blank line apart.

    Raises:
        DataError: the file can't be read, isn't text, or is longer than 100 MB.
    """
    if format_of(path).count_left_out is None or not is_file(path):
        return read_text(path)
    data, texts, _ = find_corpus([str(path)])
    documents, length = list[str](), 0
    for document in (document for text in texts for document in whole_documents(text, data)):
        documents.append(document)
        length += len(document)
        if length > _MAX_TEXT:
            raise DataError(f"{path} has more than {_MAX_TEXT:,} characters of text. Give less.")
    return "\n\n".join(documents)
