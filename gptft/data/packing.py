"""Token ids, each document ended by EOS -> blocks of equal length, and the tail beyond them."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gptft.tokenization.token_ids import TokenIds


def insert_bos(
    token_ids: TokenIds, starts: npt.NDArray[np.int64], *, bos: Sequence[int]
) -> TokenIds:
    """Put the ids `bos` before each of the places `starts`, shape (N,), of a stretch of ids.

    >>> insert_bos(np.array([5, 2, 6, 2], np.uint16), np.array([0, 2]), bos=[1]).tolist()
    [1, 5, 2, 1, 6, 2]
    """
    return np.insert(token_ids, np.repeat(starts, len(bos)), np.tile(bos, len(starts)))


def document_starts(
    token_ids: TokenIds, *, before: int | None, eos_token_id: int, bos: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Which ids of a stretch are the first of a document: those after EOS, or BOS after EOS.

    Args:
        token_ids: shape (T,), T >= 1.
        before: the id before the stretch; None where there is none.
        eos_token_id: that ends each document.
        bos: ids that begin each document, maybe none; BOS may be EOS.

    Returns:
        shape (T,).

    >>> ids = np.array([2, 5, 2, 2, 6])
    >>> document_starts(ids, before=None, eos_token_id=2, bos=[2]).tolist()
    [True, False, False, True, False]
    """
    is_start = np.concatenate([[before in (None, eos_token_id)], token_ids[:-1] == eos_token_id])
    return is_start & (token_ids == bos[0]) if bos else is_start


def pack_blocks(token_ids: TokenIds, *, block_size: int) -> tuple[TokenIds, TokenIds]:
    """Cut a stream of token ids into equal blocks and hand back what is left over.

    Args:
        token_ids: shape (N,), unsigned; documents already joined, each ended by EOS.
        block_size: tokens a block, >= 1.

    Returns:
        blocks of shape (N // block_size, block_size), a view that copies nothing, and the tail of
        shape (N % block_size,).

    Source: GPT-2 fills its context this way (Radford et al. 2019, section 2.3); GPT-3 appendix B
    packs documents with an end-of-text token and no padding.

    >>> blocks, tail = pack_blocks(np.arange(7, dtype=np.uint16), block_size=3)
    >>> blocks.tolist(), tail.tolist()
    ([[0, 1, 2], [3, 4, 5]], [6])
    """
    num_blocks = len(token_ids) // block_size
    cut = num_blocks * block_size
    return token_ids[:cut].reshape(num_blocks, block_size), token_ids[cut:]


def pack_stream(
    arrays: Iterable[TokenIds], *, block_size: int, rows: int
) -> Iterator[tuple[TokenIds, TokenIds]]:
    """Pack a stream of arrays of any lengths, holding about `rows` blocks in memory.

    Args:
        arrays: each of shape (n,), any n, all of one dtype.
        block_size: tokens a block, >= 1.
        rows: blocks a batch, >= 1.

    Yields:
        batches of shape (rows, block_size), each with an empty tail; last of all one batch of fewer
        rows, perhaps none, with the tail of the whole stream.
    """
    pending: list[TokenIds] = []
    num_pending = 0
    last: TokenIds = np.zeros(0, dtype=np.uint16)
    for array in arrays:
        last = array
        pending.append(array)
        num_pending += len(array)
        if num_pending >= rows * block_size:
            joined = np.concatenate(pending)
            batches, rest = pack_blocks(joined, block_size=rows * block_size)
            for batch in batches:
                yield batch.reshape(rows, block_size), joined[:0]
            pending, num_pending = [rest], len(rest)
    joined = np.concatenate(pending) if pending else last[:0]
    yield pack_blocks(joined, block_size=block_size)
