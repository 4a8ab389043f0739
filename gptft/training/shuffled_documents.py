"""A stream of documents in a store -> its blocks, the documents in another order in each epoch."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from gptft.data.packing import document_starts
from gptft.data.store import BlockStore
from gptft.training.dataset import marked_block

Places = npt.NDArray[np.int64]
_AT_ONCE = 2**20  # tokens that are looked through for the ends of documents


def stored_starts(
    store: BlockStore, *, eos_token_id: int, bos: Sequence[int], begins_each: bool
) -> Places:
    """Where the documents of a store begin in its stream; all of it is read once.

    Args:
        store: a split packed as a stream.
        eos_token_id: what ends a document, unless the store says itself where each begins.
        bos: ids that begin documents, maybe none.
        begins_each: False where BOS is EOS and stands before the first document alone; its place is
            no document's then.

    Returns:
        shape (D,), ascending.
    """
    lead = 0 if begins_each else 1
    found: list[Places] = [np.array([lead], np.int64)]
    before: int | None = None
    for start in range(0, store.num_tokens, _AT_ONCE):
        ids = store.span(start, min(_AT_ONCE, store.num_tokens - start))
        begins = store.flag_span("begins", start, len(ids))
        if begins is None:
            begins = document_starts(
                ids, before=before, eos_token_id=eos_token_id, bos=bos if begins_each else ()
            )
        places = np.flatnonzero(begins).astype(np.int64) + start
        found.append(places[places > lead])
        before = int(ids[-1])
    starts = np.concatenate(found)
    return starts[starts < store.num_tokens]


class ShuffledBlockDataset(Dataset[torch.Tensor]):
    """All tokens of a store in as many blocks, cut from its documents in an order of the epoch.

    The order is drawn by the seed and the epoch, the same in every process and every run; the
    corpus stays on the disk, and what is held is three numbers a document. A last document that the
    store's end cuts stays last, since no other may follow it as if it were its end. A BOS that is
    EOS and stands before the first document alone stays first.
    """

    def __init__(self, store: BlockStore, *, seed: int, starts: Places) -> None:
        """Shuffle the documents of `store` that begin at `starts`; see `stored_starts`."""
        self._store, self._seed, self._starts = store, seed, starts
        self._lead = int(starts[0])
        self._lengths = np.diff(np.append(starts, store.num_tokens))
        self._is_last_cut = False
        self._order = np.arange(len(starts))
        self._stops = np.cumsum(self._lengths)

    @classmethod
    def of(
        cls,
        store: BlockStore,
        *,
        seed: int,
        eos_token_id: int,
        bos: Sequence[int],
        begins_each: bool,
    ) -> "ShuffledBlockDataset":
        """Find the documents of `store`, and shuffle them; see `stored_starts`."""
        starts = stored_starts(store, eos_token_id=eos_token_id, bos=bos, begins_each=begins_each)
        found = cls(store, seed=seed, starts=starts)
        found._is_last_cut = int(store[-1][-1]) != eos_token_id
        found.set_epoch(0)
        return found

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> torch.Tensor:
        size = self._store.block_size
        start, stop = index * size, min((index + 1) * size, self._store.num_tokens)
        pieces = [self._piece(*one) for one in self._pieces(start, stop)]
        return torch.cat(pieces) if len(pieces) != 1 else pieces[0]

    def _pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Places and lengths, in the store, of what is from `start` to `stop` in the epoch."""
        found = []
        if start < self._lead:
            found.append((start, min(self._lead, stop) - start))
            start = self._lead
        at, end = start - self._lead, stop - self._lead
        rank = int(np.searchsorted(self._stops, at, side="right"))
        while at < end:
            number, last = int(self._order[rank]), int(self._stops[rank])
            into = at - (last - int(self._lengths[number]))
            taken = min(last, end) - at
            found.append((int(self._starts[number]) + into, taken))
            at, rank = at + taken, rank + 1
        return found

    def _piece(self, start: int, length: int) -> torch.Tensor:
        return marked_block(
            self._store.span(start, length),
            begins=self._store.flag_span("begins", start, length),
            trained=self._store.flag_span("trained", start, length),
        )

    def set_epoch(self, epoch: int) -> None:
        """Put the documents into the order of epoch `epoch`, from 0."""
        number = len(self._starts) - self._is_last_cut
        order = np.random.default_rng([self._seed, epoch]).permutation(number)
        self._order = np.append(order, number) if self._is_last_cut else order
        self._stops = np.cumsum(self._lengths[self._order])

    @property
    def num_documents(self) -> int:
        """How many documents change their places."""
        return len(self._starts) - self._is_last_cut
