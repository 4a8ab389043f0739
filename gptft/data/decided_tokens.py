"""The text of a block store -> windows of it, and the tokens in them that can be known at all.

What stands before a token mostly decides it, but not at the beginning of a text: where three poems
begin with the same word, no model gives the second word of each a probability above a third.
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from gptft.data.marked_ids import Flags
from gptft.data.packing import document_starts
from gptft.data.store import BlockStore
from gptft.tokenization.token_ids import TokenIds


class Window:
    """A stretch of the text, and which of its tokens are decided by those before them in it.

    Attributes:
        ids: shape (T,).
    """

    def __init__(
        self,
        text: TokenIds,
        start: int,
        stop: int,
        *,
        counted_from: int,
        trained: Flags | None = None,
    ) -> None:
        """Tokens `start` to `stop` of `text`; of them those from `counted_from` on count.

        Of `text` only the tokens of `trained` do, where it is given.
        """
        self._text, self._start, self._counted_from = text, start, counted_from
        self._trained = None if trained is None else trained[start:stop]
        self.ids: TokenIds = text[start:stop]

    @cached_property
    def decided(self) -> npt.NDArray[np.bool_]:
        """Whether a token counts and what stands before it is never followed by another; (T,)."""
        text, ids = self._text, self.ids
        decided = np.ones(len(ids), dtype=bool)
        decided[0] = False
        places = np.flatnonzero(text == ids[0])  # where the tokens so far stand in the text
        for n in range(1, len(ids)):
            if len(places) == 1:
                break
            places = places[places + n < len(text)]
            is_same = text[places + n] == ids[n]
            decided[n] = is_same.all()
            places = places[is_same]
        decided[: self._counted_from] = False
        return decided if self._trained is None else decided & self._trained


def windows_of(
    store: BlockStore,
    *,
    isolated: bool,
    shifted: bool,
    eos_token_id: int,
    bos: tuple[int, ...] = (),
) -> list[Window]:
    """Windows of at most a block, in which every token has half a block before it, or all there is.

    Args:
        store: a split; held in memory as a whole.
        isolated: whether its documents don't see each other. A window is then within one document;
            else it is of the stream of all.
        shifted: whether each epoch cuts the stream elsewhere. It is a ring then if it ends with
            EOS, and its end stands before its beginning.
        eos_token_id: what ends a document.
        bos: ids that begin each document, maybe none.
    """
    text = store.span(0, store.num_tokens)
    begun = store.flag_span("begins", 0, store.num_tokens)
    trained = store.flag_span("trained", 0, store.num_tokens)
    size = store.block_size
    step = max(size // 2, 1)
    starts, lead = [0], 0
    if begun is not None and (isolated or store.is_fitted):
        starts = [0, *(np.flatnonzero(begun[1:]) + 1).tolist()]
    elif isolated:
        is_start = document_starts(text, before=None, eos_token_id=eos_token_id, bos=bos)
        starts = [0, *(np.flatnonzero(is_start[1:]) + 1).tolist()]
    elif shifted and len(text) > size and int(text[-1]) == eos_token_id:
        lead = step
        # The EOS at the end is the BOS at the beginning, where that is one (`ShiftedBlockDataset`).
        begin = 1 if bos == (eos_token_id,) else 0
        text = np.concatenate([text[-lead:], text[begin:]])
        if trained is not None:
            trained = np.concatenate([trained[-lead:], trained[begin:]])
    windows = []
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        counted_from = max(lead, 1)
        while True:
            end = min(start + size, stop)
            windows.append(Window(text, start, end, counted_from=counted_from, trained=trained))
            if end == stop:
                break
            counted_from = size - step
            start += step
    return [window for window in windows if len(window.ids) > 1]
