"""A block store -> its documents as token ids, one after another."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gptft.data.marked_ids import Flags
from gptft.data.store import BlockStore
from gptft.tokenization.token_ids import TokenIds


class StoredDocument(NamedTuple):
    """One document.

    Attributes:
        ids: shape (n,), n >= 1, without BOS and EOS.
        is_whole: whether EOS follows; False for one that the end of the store cuts, or of which
            this is a piece that a block holds.
        trained: which of `ids` are trained on, shape (n,), or None where all are.
        is_end_trained: whether the EOS that follows is.
        is_piece: whether this is a further piece of a document that was split, which begins within
            a sentence as often as not.
    """

    ids: TokenIds
    is_whole: bool
    trained: Flags | None = None
    is_end_trained: bool = True
    is_piece: bool = False


def stored_documents(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int] = ()
) -> Iterator[StoredDocument]:
    """Yield the documents of a split in their order, blocks read as they are needed.

    Args:
        store: the split.
        eos_token_id: what ends a document.
        bos: ids that stand before documents.
    """
    if len(store) and store.begins(0) is not None:
        yield from _marked_documents(store, eos_token_id=eos_token_id, bos=bos)
        return
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


def block_documents(
    store: BlockStore, number: int, *, eos_token_id: int, bos: Sequence[int] = ()
) -> Iterator[StoredDocument]:
    """Yield the documents that begin in a block of a store that says so, up to the block's end."""
    for begins, part in _parts(store, number):
        if begins:
            yield from _framed([part], eos_token_id=eos_token_id, bos=bos)


class _Part(NamedTuple):
    """What of a document is in a block, and whether it is a further piece of one."""

    ids: TokenIds
    trained: Flags | None
    is_piece: bool


def _parts(store: BlockStore, number: int) -> Iterator[tuple[bool, _Part]]:
    """The parts of a block, each of one document, and whether that begins with it."""
    ids, begins, trained = store[number], store.begins(number), store.trained(number)
    continues = store.continues(number)
    starts = np.flatnonzero(begins).tolist() if begins is not None else []
    for start, stop in pairwise([0, *(n for n in starts if n), len(ids)]):
        flags = None if trained is None else trained[start:stop]
        is_piece = continues is not None and bool(continues[start])
        yield start in starts, _Part(ids[start:stop], flags, is_piece)


def _marked_documents(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int]
) -> Iterator[StoredDocument]:
    """The documents of a store that says where they begin; EOS may stand within one."""
    pending: list[_Part] = []
    for number in range(len(store)):
        for begins, part in _parts(store, number):
            if begins and pending:
                yield from _framed(pending, eos_token_id=eos_token_id, bos=bos)
                pending = []
            pending.append(part)
    if pending:
        yield from _framed(pending, eos_token_id=eos_token_id, bos=bos)


def _framed(
    parts: Sequence[_Part], *, eos_token_id: int, bos: Sequence[int]
) -> Iterator[StoredDocument]:
    """The document that `parts` make with what frames it."""
    ids = np.concatenate([part.ids for part in parts])
    marks = [part.trained for part in parts if part.trained is not None]
    start = len(bos) if bos and ids[: len(bos)].tolist() == [*bos] else 0
    is_whole = len(ids) > start and int(ids[-1]) == eos_token_id
    stop = len(ids) - is_whole
    if start < stop:
        trained = np.concatenate(marks) if marks else None
        yield StoredDocument(
            ids[start:stop],
            is_whole,
            None if trained is None else trained[start:stop],
            is_end_trained=trained is None or bool(trained[-1]),
            is_piece=parts[0].is_piece,
        )


def _document(
    parts: Sequence[TokenIds], bos: Sequence[int], *, is_whole: bool
) -> Iterator[StoredDocument]:
    """The document that `parts` make; none where nothing is in it, as before a BOS that is EOS."""
    ids = np.concatenate(parts)
    if bos and ids[: len(bos)].tolist() == [*bos]:
        ids = ids[len(bos) :]
    if len(ids):
        yield StoredDocument(ids, is_whole)
