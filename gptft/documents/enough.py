"""A number of documents or conversations -> how many a share is, or what to say where too few are.

Conversations are counted by whether something is learned of them.
"""

from gptft.config.data import DataConfig
from gptft.errors import DataError

_NO_ANSWER = (
    "there is no conversation with an answer, a message of the role assistant, and answers alone "
    "are learned. Name files with answers, or set data.loss_on: all."
)


def share_size(num_documents: int, data: DataConfig, *, fraction: float) -> int:
    """How many documents a share holds out: at least one, never all.

    Raises:
        DataError: there is only one document.
    """
    if num_documents < 2:
        few = (
            f"documents, and {data.train_names} is 1. Set data.document_separator or "
            "data.document_heading to cut it into documents, name"
        )
        if data.holds_conversations:
            few = f"conversations to learn from, and {data.train_names} has 1. Name"
        raise DataError(
            f"data.validation: {fraction:g} needs at least 2 {few} a validation file, or leave "
            "data.validation out."
        )
    return min(max(1, round(num_documents * fraction)), num_documents - 1)


def nothing_to_train_on(data: DataConfig, *, num_files: int) -> DataError:
    """What to say where no file of the training split holds anything to learn."""
    if data.holds_conversations:
        return DataError(f"{data.train_names}: {_NO_ANSWER}")
    plural = "s, and no text in any of them" if num_files > 1 else ", and no text in it"
    return DataError(f"{data.train_names}: {num_files} file{plural}.")


def nothing_held_out(data: DataConfig) -> DataError:
    """What to say where the files of data.validation hold nothing to measure."""
    what = _NO_ANSWER if data.holds_conversations else "no text in any of its files."
    return DataError(f"data.validation: {what}")
