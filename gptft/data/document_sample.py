"""A block store -> the beginnings of some of its documents, spread over all of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gptft.data.marked_ids import Flags
from gptft.data.store import BlockStore
from gptft.data.stored_documents import StoredDocument, block_documents, stored_documents
from gptft.tokenization.token_ids import TokenIds

MAX_DOCUMENTS = 200
_MAX_TOKENS = 16_384  # of all together: a forward pass of seconds on a CPU
_LEAST_TOKENS = 8  # of a document: the loss of fewer is chance
_FEW_BLOCKS = 2_000  # that are read to the end; of more, some are looked into


@dataclass(frozen=True)
class SampledDocument:
    """The beginning of a document.

    Attributes:
        ids: shape (n,), BOS and EOS among them where the document has them there.
        text_ids: those of its text alone.
        trained: which of `ids` are trained on, or None where all are.
    """

    ids: TokenIds
    text_ids: TokenIds
    trained: Flags | None = None

    @property
    def num_predicted(self) -> int:
        """Tokens that are predicted of it, alone."""
        return len(self.ids) - 1 if self.trained is None else int(self.trained[1:].sum())


def sample_documents(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int] = ()
) -> list[SampledDocument]:
    """Up to 200 documents, evenly spread, the same each time; none where there is but one.

    All have about as many tokens as fit a bound together, and none more than a block.

    Args:
        store: the training split.
        eos_token_id: what ends a document.
        bos: ids that begin one.
    """
    length = store.block_size
    if len(store) <= _FEW_BLOCKS:
        documents = stored_documents(store, eos_token_id=eos_token_id, bos=bos)
        found = [one for one in documents if _is_fit(one)]
        if len(found) > MAX_DOCUMENTS:
            places = np.linspace(0, len(found) - 1, MAX_DOCUMENTS).round().astype(int)
            found = [found[place] for place in places.tolist()]
    else:
        found = [*_looked_into(store, eos_token_id=eos_token_id, bos=bos)]
    if len(found) < 2:
        return []
    room = max(min(length, _MAX_TOKENS // len(found)) - len(bos), _LEAST_TOKENS)
    cut = [_cut(one, room, eos_token_id, bos) for one in found]
    predicted = [one for one in cut if one.num_predicted]
    return predicted if len(predicted) > 1 else []


def _looked_into(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int]
) -> Iterator[StoredDocument]:
    """The first document that begins in each of some blocks."""
    size = store.block_size
    if store.begins(0) is not None:
        yield from _marked_looked_into(store, eos_token_id=eos_token_id, bos=bos)
        return
    for number in np.linspace(0, len(store) - 2, MAX_DOCUMENTS).round().astype(int).tolist():
        ids = store.span(number * size, 2 * size)
        ends = np.flatnonzero(ids == eos_token_id)
        start = int(ends[0]) + 1 if len(ends) else len(ids)
        rest = ids[start : start + size]
        if bos and rest[: len(bos)].tolist() == [*bos]:
            rest = rest[len(bos) :]
        inner = np.flatnonzero(rest == eos_token_id)
        text = rest[: int(inner[0])] if len(inner) else rest
        if len(text) >= _LEAST_TOKENS:
            yield StoredDocument(text, bool(len(inner)))


def _marked_looked_into(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int]
) -> Iterator[StoredDocument]:
    """Likewise, of a store that says where documents begin, up to the end of the block."""
    for number in np.linspace(0, len(store) - 1, MAX_DOCUMENTS).round().astype(int).tolist():
        found = block_documents(store, number, eos_token_id=eos_token_id, bos=bos)
        if (document := next(filter(_is_fit, found), None)) is not None:
            yield document


def _is_fit(document: StoredDocument) -> bool:
    """Whether it begins where its text does, and is more than a few tokens."""
    return not document.is_piece and len(document.ids) >= _LEAST_TOKENS


def _cut(
    document: StoredDocument, room: int, eos_token_id: int, bos: Sequence[int]
) -> SampledDocument:
    ids = document.ids
    text = ids[:room]
    end = [eos_token_id] if document.is_whole and len(ids) < room else []
    whole = np.concatenate([np.array([*bos], ids.dtype), text, np.array(end, ids.dtype)])
    trained = None
    if document.trained is not None:
        begin, rest = [False] * len(bos), [document.is_end_trained] * len(end)
        trained = np.array([*begin, *document.trained[:room].tolist(), *rest])
    return SampledDocument(whole, text, trained)
