"""A file of a text -> all of it as one string."""

from pathlib import Path

from gptft.documents.corpus import find_corpus
from gptft.documents.formats.registry import format_of
from gptft.documents.read import whole_documents
from gptft.inputs import is_file
from gptft.text.encoding import read_text


def read_whole_text(path: Path) -> str:
    """All of a text file; of a book or a page what training takes, chapters a blank line apart.

    Raises:
        DataError: the file can't be read, isn't text, or has more than 100 MB of it.
    """
    if format_of(path).count_left_out is None or not is_file(path):
        return read_text(path)
    data, texts, _ = find_corpus([str(path)])
    return "\n\n".join(document for text in texts for document in whole_documents(text, data))
