"""Lengths of documents -> which blocks they fill best, whole where a block holds them."""

from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """Pieces of documents, block by block.

    A document that a block holds is one piece; a longer one is several full blocks and a rest.

    Attributes:
        documents: of each piece, the number of its document, shape (P,).
        offsets: where in its document each begins, shape (P,).
        lengths: tokens of each, shape (P,).
        stops: of each block, one past its last piece, shape (R,).
        is_tail_short: whether the last block is the emptiest, and not full.
        num_split: documents of more than one piece.
    """

    documents: Numbers
    offsets: Numbers
    lengths: Numbers
    stops: Numbers
    is_tail_short: bool
    num_split: int


def fit_blocks(lengths: Numbers, *, block_size: int) -> Fit:
    """Put documents into as few blocks as best-fit decreasing finds; nothing is left out.

    The longest come first, each into the fullest block that has room. Within a block documents
    stand in their order, and blocks in the order of their first documents; the emptiest comes last,
    unless all are full. The same lengths give the same blocks on every machine.

    Args:
        lengths: tokens of each document, 1 or more, shape (N,), N >= 1.
        block_size: tokens a block.

    Source: best-fit decreasing takes at most 11/9 of the fewest blocks, + 1 (Johnson et al. 1974);
    for packing documents see Ding et al., "Fewer Truncations Improve Language Modeling" (2024).

    >>> found = fit_blocks(np.array([3, 9, 1, 2]), block_size=4)
    >>> found.documents.tolist(), found.lengths.tolist(), found.stops.tolist()
    ([0, 1, 1, 1, 2, 3], [3, 1, 4, 4, 1, 2], [2, 3, 4, 6])
    """
    counts = -(-lengths // block_size)
    documents = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = number * block_size
    pieces = np.minimum(lengths[documents] - offsets, block_size)
    blocks = _blocks_of(pieces, block_size=block_size)
    firsts = np.empty(int(blocks.max()) + 1, np.int64)
    firsts[blocks[::-1]] = np.arange(len(blocks))[::-1]  # the last that is assigned stays
    filled = np.bincount(blocks, weights=pieces).astype(np.int64)  # exact up to 2**53
    ranks = np.empty(len(firsts), np.int64)
    ranks[np.argsort(firsts)] = np.arange(len(firsts))
    emptiest = np.flatnonzero(filled == filled.min())
    last = emptiest[np.argmax(ranks[emptiest])]
    ranks[ranks > ranks[last]] -= 1
    ranks[last] = len(ranks) - 1
    rows = ranks[blocks]
    order = _stable_order(rows, below=len(ranks))
    return Fit(
        documents=documents[order],
        offsets=offsets[order],
        lengths=pieces[order],
        stops=np.cumsum(np.bincount(rows)),
        is_tail_short=bool(filled[last] < block_size),
        num_split=int((counts > 1).sum()),
    )


def _blocks_of(lengths: Numbers, *, block_size: int) -> Numbers:
    """The block of each piece, shape (P,), by best-fit decreasing.

    Pieces of one length are placed together, as many at a time as blocks of one room take: work and
    time grow with how many lengths there are, hardly with how many pieces.
    """
    order = _stable_order(block_size - lengths, below=block_size)
    blocks_of = np.empty(len(lengths), np.int64)
    by_room: dict[int, list[Numbers]] = {}  # blocks that aren't full, by the tokens they still take
    rooms: list[int] = []  # the keys, rising
    num_blocks = 0

    def put(room: int, blocks: Numbers) -> None:
        if room and len(blocks):
            if room not in by_room:
                insort(rooms, room)
            by_room.setdefault(room, []).append(blocks)

    sorted_lengths = lengths[order]
    edges = np.flatnonzero(np.diff(sorted_lengths)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(order)]):
        length, begin = int(sorted_lengths[start]), start
        while begin < stop:
            if (at := bisect_left(rooms, length)) < len(rooms):
                room = rooms.pop(at)
                blocks = np.concatenate(by_room.pop(room))
            else:
                room, needed = block_size, -(-(stop - begin) // (block_size // length))
                blocks = np.arange(num_blocks, num_blocks + needed)
                num_blocks += needed
            each = room // length  # a block that takes one is the fullest for the next, too
            used = min(len(blocks), -(-(stop - begin) // each))
            taken = min(used * each, stop - begin)
            blocks_of[order[begin : begin + taken]] = np.repeat(blocks[:used], each)[:taken]
            in_last = taken - (used - 1) * each
            put(room, blocks[used:])
            put(room - each * length, blocks[: used - 1])
            put(room - in_last * length, blocks[used - 1 : used])
            begin += taken
    return blocks_of


def _stable_order(values: Numbers, *, below: int) -> Numbers:
    """What sorts whole numbers from 0 on that are below a bound, equal ones in their order.

    16 bits at a time, the lowest first, since NumPy sorts those by radix: several times as fast.
    """
    order = np.arange(len(values))
    for shift in range(0, below.bit_length(), 16):
        digits = (values[order] >> shift).astype(np.uint16)  # the higher bits fall away
        order = order[np.argsort(digits, kind="stable")]
    return order
