"""Token sequences and a long stream -> the longest span and the n-grams that stand in both.

The stream is read in chunks, once for every 128 sequences; memory doesn't grow with its length.

Every n-gram of the sequences, n a power of two, gets a number: first the tokens, then pairs of
neighbouring tokens, pairs of pairs, and so on. The stream's n-grams are given the same numbers
where they have one. Equal numbers are equal n-grams by construction, so that no hash of n-grams can
mistake one for another; and two numbers that overlap name an n-gram of any length in between.

Source: Karp, Miller, Rosenberg 1972, "Rapid identification of repeated patterns in strings, trees
and arrays", for the numbering.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from gptft.tokenization.token_ids import TokenIds

SIZES = (4, 8, 16)  # of the n-grams that are counted; powers of two

_AT_ONCE = 2**19  # tokens: their numbers at every length take about 20 MB
_SEQUENCES = 128  # in one pass: each has a table as long as there are n-grams in all of them
_SLOT_BITS = 18  # of the filter before the exact look-up; its table stays in a core's cache
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: Knuth 1998, section 6.4

Numbers = npt.NDArray[np.int32]  # of n-grams; 0 is one that no sequence has
Places = npt.NDArray[np.int64]
_NOWHERE: Places = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Copied:
    """What of one sequence stands in the stream.

    Attributes:
        longest: tokens of the longest span that does; 0 where no token does.
        start: where that span begins in the sequence; of several as long, the first.
        longest_ids: its ids.
        place_in_stream: where it first begins in the stream; None where `longest` is 0.
        num_places: at how many places of the stream it begins.
        found: by n, how many of the sequence's n-grams stand in the stream.
        ngrams: by n, how many it has; one that holds a document's end is none.
        stretches: what its shortest n-grams that stand in the stream cover, each as its first
            token and one past its last.
    """

    longest: int
    start: int
    longest_ids: tuple[int, ...]
    place_in_stream: int | None
    num_places: int
    found: dict[int, int]
    ngrams: dict[int, int]
    stretches: tuple[tuple[int, int], ...] = ()

    @property
    def shares(self) -> dict[int, float | None]:
        """By n, the share of its n-grams that stand in the stream; None where it has none."""
        return {n: self.found[n] / total if total else None for n, total in self.ngrams.items()}


@dataclass(frozen=True)
class _Level:
    """All n-grams of the sequences for one n, a power of two.

    Attributes:
        numbers: by place in the joined sequences, that of the n-gram that begins there.
        keys: sorted; the n-gram with number i + 1 is keys[i], a token or a pair of numbers.
        slots: True where some key falls.
    """

    numbers: Numbers
    keys: Places
    slots: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Chunk:
    """A stretch of the stream: its n-grams' numbers, level by level.

    Attributes:
        start: its first token's place in the stream.
        own: spans that begin at these first places are this chunk's; later ones the next one's.
        numbers: by level, of shape (tokens,).
        hits: by level, where the numbers aren't 0.
    """

    start: int
    own: int
    numbers: list[Numbers]
    hits: list[Places]


def find_copies(
    sequences: Sequence[Sequence[int]],
    *,
    read: Callable[[int, int], TokenIds],
    num_tokens: int,
    eos_token_id: int,
    bos_token_ids: Sequence[int] = (),
    at_once: int = _AT_ONCE,
) -> list[Copied]:
    """Find what of each sequence stands in a stream of documents, each ended by EOS.

    No span and no n-gram runs over the end of a document, in the stream or in a sequence.

    Args:
        sequences: ids each, of any length.
        read: gives the ids from a place of the stream on, as many as are asked for.
        num_tokens: the stream's.
        eos_token_id: what ends a document.
        bos_token_ids: what begins one.
        at_once: tokens of the stream to look at together, >= 1.

    Returns:
        one `Copied` a sequence, in order.

    >>> stream = np.array([5, 6, 7, 0, 6, 7, 8, 0], dtype=np.uint16)
    >>> [copied] = find_copies(
    ...     [[9, 6, 7, 8, 5]],
    ...     read=lambda start, length: stream[start : start + length],
    ...     num_tokens=8,
    ...     eos_token_id=0,
    ... )
    >>> copied.longest_ids, copied.place_in_stream, copied.num_places, copied.shares[4]
    ((6, 7, 8), 4, 1, 0.0)
    """
    copies: list[Copied] = []
    for first in range(0, len(sequences), _SEQUENCES):
        arrays = [np.array(ids, dtype=np.int64) for ids in sequences[first : first + _SEQUENCES]]
        longest = max(map(len, arrays))
        gap = np.array([-1])  # no n-gram runs over it
        joined = np.concatenate([part for array in arrays for part in (array, gap)])
        joined[np.isin(joined, [eos_token_id, *bos_token_ids])] = gap
        table, levels = _number(joined, longest=longest)
        ends = accumulate(len(array) + 1 for array in arrays)
        searches = [
            _Search(array, levels, slice(end - len(array) - 1, end - 1))
            for array, end in zip(arrays, ends, strict=True)
        ]
        seen = [np.zeros(len(level.keys) + 1, dtype=bool) for level in levels]
        # A span may begin in one chunk and end in the next, and is never longer than its sequence.
        own, overlap = max(at_once, longest), longest - 1
        for start in range(0, num_tokens if levels else 0, own):
            ids = read(start, min(own + overlap, num_tokens - start))
            chunk = _number_chunk(ids, table, levels, start=start, own=min(own, len(ids)))
            # strict=False: a chunk has no levels beyond the longest n-grams found in it.
            for marks, numbers, hits in zip(seen, chunk.numbers, chunk.hits, strict=False):
                marks[numbers[hits]] = True
            for search in searches:
                search.look_into(chunk)
        copies += [search.copied(seen) for search in searches]
    return copies


def _number(joined: Places, *, longest: int) -> tuple[Numbers, list[_Level]]:
    """Number the n-grams of the joined sequences.

    Args:
        joined: ids, and -1 where no n-gram runs over.
        longest: tokens of the longest sequence.

    Returns:
        the number of every id up to the highest, and after it 0 for all that are higher; and a
        level for n = 1, 2, 4, ... as long as there are n-grams.
    """
    ids = np.unique(joined[joined >= 0])
    table = np.zeros(int(ids[-1]) + 2 if len(ids) else 1, dtype=np.int32)
    table[ids] = np.arange(1, len(ids) + 1)
    numbers = np.where(joined >= 0, table[joined], 0).astype(np.int32)
    levels: list[_Level] = []
    keys, half = ids, 1
    while len(keys) and half <= longest:
        slots = np.zeros(2**_SLOT_BITS, dtype=bool)
        slots[_slots_of(keys)] = True
        levels.append(_Level(numbers, keys, slots))
        left, right = numbers[: len(numbers) - half], numbers[half:]
        pairs = _pair(left, right)
        is_gram = (left > 0) & (right > 0)
        keys, inverse = np.unique(pairs[is_gram], return_inverse=True)
        numbers = np.zeros_like(numbers)
        numbers[: len(pairs)][is_gram] = inverse + 1
        half *= 2
    return table, levels


def _pair(left: Numbers, right: Numbers) -> Places:
    """Two numbers as one: there are fewer than 2**31 of them."""
    return (left.astype(np.int64) << 31) | right


def _slots_of(keys: Places) -> npt.NDArray[np.uint64]:
    """Where keys fall in the filter; two may fall on the same place."""
    return (keys.view(np.uint64) * _SPREAD) >> np.uint64(64 - _SLOT_BITS)


def _number_chunk(
    ids: TokenIds, table: Numbers, levels: Sequence[_Level], *, start: int, own: int
) -> _Chunk:
    numbers = table.take(ids, mode="clip")  # beyond the table's end is its last, 0
    chunk = _Chunk(start, own, [numbers], [np.flatnonzero(numbers)])
    half = 1
    for level in levels[1:]:
        hits = chunk.hits[-1]
        hits = hits[: np.searchsorted(hits, len(ids) - half)]  # they are sorted
        hits = hits[numbers[hits + half] > 0]
        pairs = _pair(numbers[hits], numbers[hits + half])
        maybe = np.flatnonzero(level.slots[_slots_of(pairs)])
        hits, pairs = hits[maybe], pairs[maybe]
        found = np.searchsorted(level.keys, pairs)
        is_one = level.keys[np.minimum(found, len(level.keys) - 1)] == pairs
        hits = hits[is_one]
        if not len(hits):
            break
        numbers = np.zeros(len(ids), dtype=np.int32)
        numbers[hits] = found[is_one] + 1
        chunk.numbers.append(numbers)
        chunk.hits.append(hits)
        half *= 2
    return chunk


class _Search:
    """The longest span of one sequence, as far as the stream was read.

    Attributes:
        length: its tokens.
        first: by place in the sequence, where the span that begins there first stands.
        count: at how many places it stands.
    """

    def __init__(self, ids: Places, levels: Sequence[_Level], part: slice) -> None:
        """Search for the sequence of `ids` that is `part` of the joined ones."""
        self._ids = ids
        self._numbers = [level.numbers[part] for level in levels]
        self._is_mine = []
        for level, numbers in zip(levels, self._numbers, strict=True):
            is_mine = np.zeros(len(level.keys) + 1, dtype=bool)
            is_mine[numbers] = True
            is_mine[0] = False
            self._is_mine.append(is_mine)
        self._num_tokens = len(ids)
        self._start_over(0)

    def _start_over(self, length: int) -> None:
        self.length = length
        self.first = np.full(self._num_tokens, np.iinfo(np.int64).max)
        self.count = np.zeros(self._num_tokens, dtype=np.int64)

    def look_into(self, chunk: _Chunk) -> None:
        """Take account of the spans that begin in a chunk."""

        @cache
        def own_hits(level: int) -> Places:
            hits = chunk.hits[level]
            hits = hits[: np.searchsorted(hits, chunk.own)]
            mine: Places = hits[self._is_mine[level][chunk.numbers[level][hits]]]
            return mine

        longest = max(self.length, 1)
        for level in range(len(chunk.hits) - 1, longest.bit_length() - 1, -1):
            if len(own_hits(level)):
                longest = 2**level
                break
        spans = self._spans(chunk, longest, own_hits)
        if not len(spans[0]):
            return
        step = 1  # where a span stands, all shorter ones do
        while len((longer := self._spans(chunk, longest + step, own_hits))[0]):
            longest, spans, step = longest + step, longer, 2 * step
        while step := step // 2:
            if len((longer := self._spans(chunk, longest + step, own_hits))[0]):
                longest, spans = longest + step, longer
        if longest > self.length:
            self._start_over(longest)
        places, starts = spans
        np.minimum.at(self.first, starts, places + chunk.start)
        self.count += np.bincount(starts, minlength=self._num_tokens)

    def copied(self, seen: Sequence[npt.NDArray[np.bool_]]) -> Copied:
        """What was found; `seen` are by level the numbers that the stream has."""
        found, ngrams = dict.fromkeys(SIZES, 0), dict.fromkeys(SIZES, 0)
        stretches: tuple[tuple[int, int], ...] = ()
        for level, (numbers, marks) in enumerate(zip(self._numbers, seen, strict=True)):
            if (n := 2**level) in SIZES:
                ngrams[n] = int((numbers > 0).sum())
                found[n] = int(marks[numbers].sum())  # number 0 is never marked
            if n == SIZES[0]:
                stretches = _stretches(np.flatnonzero(marks[numbers]), length=n)
        if not self.length:
            return Copied(0, 0, (), None, 0, found, ngrams)
        start = int(np.flatnonzero(self.count)[0])
        span = tuple(self._ids[start : start + self.length].tolist())
        place, count = int(self.first[start]), int(self.count[start])
        return Copied(self.length, start, span, place, count, found, ngrams, stretches)

    def _spans(
        self, chunk: _Chunk, length: int, own_hits: Callable[[int], Places]
    ) -> tuple[Places, Places]:
        """Where spans of one length begin in the chunk, and where, first, in the sequence."""
        level = length.bit_length() - 1
        if length > self._num_tokens or level >= len(chunk.hits):
            return _NOWHERE, _NOWHERE
        shift = length - 2**level  # a span is two n-grams that overlap
        theirs, ours = chunk.numbers[level], self._numbers[level]
        last = self._num_tokens - length + 1
        left, right = ours[:last], ours[shift : shift + last]
        starts = np.flatnonzero((left > 0) & (right > 0))
        if not len(starts):
            return _NOWHERE, _NOWHERE
        hits = own_hits(level)
        hits = hits[: np.searchsorted(hits, len(theirs) - shift)]
        wanted, which = np.unique(_pair(left, right)[starts], return_index=True)
        pairs = _pair(theirs[hits], theirs[hits + shift])
        found = np.minimum(np.searchsorted(wanted, pairs), len(wanted) - 1)
        is_one = wanted[found] == pairs
        return hits[is_one], starts[which[found[is_one]]]


def _stretches(starts: Places, *, length: int) -> tuple[tuple[int, int], ...]:
    """What spans of one length cover together, from their sorted first places.

    >>> _stretches(np.array([0, 1, 5, 9]), length=4)
    ((0, 13),)
    >>> _stretches(np.array([0, 6]), length=4)
    ((0, 4), (6, 10))
    """
    if not len(starts):
        return ()
    gaps = np.flatnonzero(np.diff(starts) > length)
    firsts = starts[[0, *(gaps + 1)]]
    lasts = starts[[*gaps, len(starts) - 1]] + length
    return tuple(zip(firsts.tolist(), lasts.tolist(), strict=True))
