"""A block store -> its documents as token ids, one after another."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gptft.data.store import BlockStore
from gptft.tokenization.token_ids import TokenIds


class StoredDocument(NamedTuple):
    """One document.

    Attributes:
        ids: shape (n,), n >= 1, without BOS and EOS.
        is_whole: whether EOS follows; False for one that the end of the store cuts.
    """

    ids: TokenIds
    is_whole: bool


def stored_documents(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int] = ()
) -> Iterator[StoredDocument]:
    """Yield the documents of a split in their order, blocks read as they are needed.

    Args:
        store: the split.
        eos_token_id: what ends a document.
        bos: ids that stand before documents.
    """
    pending: list[TokenIds] = []
    for number in range(len(store)):
        block = store[number]
        start = 0
        for end in np.flatnonzero(block == eos_token_id).tolist():
            yield from _document([*pending, block[start:end]], bos, is_whole=True)
            pending, start = [], end + 1
        pending.append(block[start:])
    if pending:
        yield from _document(pending, bos, is_whole=False)


def _document(
    parts: Sequence[TokenIds], bos: Sequence[int], *, is_whole: bool
) -> Iterator[StoredDocument]:
    """The document that `parts` make; none where nothing is in it, as before a BOS that is EOS."""
    ids = np.concatenate(parts)
    if bos and ids[: len(bos)].tolist() == [*bos]:
        ids = ids[len(bos) :]
    if len(ids):
        yield StoredDocument(ids, is_whole)
