"""Encoded documents -> the token ids of the train split and of the validation split.

Which documents are held out, and which a fractional weight keeps, is drawn alike on every machine.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gptft.config.data import DataConfig
from gptft.data.encoded_documents import DocumentRows, EncodedDocuments
from gptft.data.marked_ids import BEGINS, mark, strip
from gptft.data.packing import insert_bos
from gptft.documents.enough import nothing_held_out, nothing_to_train_on
from gptft.documents.held_out import Mask, draw_validation
from gptft.documents.sources import VALIDATION
from gptft.tokenization.token_ids import TokenIds

SplitName = Literal["train", "validation"]
Places = npt.NDArray[np.int64]

_ROWS_AT_ONCE = 65_536
_TOKENS_AT_ONCE = 1_000_000
_SORTED_AT_ONCE = 4_000_000  # hashes, 32 MB of them


@dataclass
class SplitCounts:
    """What went into one split; each repetition of a document counts."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    max_token_id: int = -1
    bos: int = 0


class _Pass(NamedTuple):
    """Documents `start` to `stop` once; of them those that `keep` marks."""

    start: int
    stop: int
    keep: Mask


class _Stretch(NamedTuple):
    """Consecutive documents of the corpus.

    Attributes:
        encoded: what they are of.
        first: the number of the first of them, of all documents.
        token: where their ids begin in `encoded`.
        rows: a row for each.
        number: of `encoded`, among all.
    """

    encoded: EncodedDocuments
    first: int
    token: int
    rows: DocumentRows
    number: int


class PlacedDocuments(NamedTuple):
    """Documents of a split, and where their ids are; each attribute is of shape (N,).

    Attributes:
        encoded: the number of the encoded documents that each is of.
        starts: where its ids begin in those.
        tokens: how many they are, EOS among them and BOS not.
        documents: its number, of all documents.
    """

    encoded: Places
    starts: Places
    tokens: Places
    documents: Places


class Split:
    """The documents of a corpus, and which of them stand in which split.

    Attributes:
        num_documents: of both splits, each counted once.
        num_validation: documents held out.
        num_repeated: repetitions that weights above 1 ask for.
        num_unused: documents that weights below 1 leave out.
        counts: of each split, filled in by `token_ids`.
    """

    def __init__(
        self,
        encoded: Sequence[EncodedDocuments],
        numbers: Sequence[int],
        data: DataConfig,
        *,
        bos: Sequence[int] = (),
        begins_each: bool = True,
    ) -> None:
        """Draw the validation split and what fractional weights keep.

        Args:
            encoded: in order; together they hold the documents of all texts.
            numbers: of each text, which entry of data.train named it, or VALIDATION.
            data: the config's data section.
            bos: ids that begin documents.
            begins_each: whether they begin every document, or the first of each split alone.

        Raises:
            DataError: a split is empty, or there are too few documents to hold any out.
        """
        self._encoded, self._bos, self._begins_each = encoded, bos, begins_each
        self._counts = [count for one in encoded for count in one.stats.documents]
        self._stops = list(accumulate(self._counts))
        self._ranges = _ranges(self._counts, numbers)
        self.num_documents = sum(self._counts)
        start, stop = self._ranges.get(VALIDATION, (0, 0))
        self.num_validation, num_train = stop - start, self.num_documents - (stop - start)
        if not num_train:
            raise nothing_to_train_on(
                data, num_files=sum(number != VALIDATION for number in numbers)
            )
        held_out: Mask = np.zeros(self.num_documents, dtype=bool)
        held_out[start:stop] = True
        if isinstance(data.validation, float):
            held_out = draw_validation(num_train, data, fraction=data.validation)
            self.num_validation = int(held_out.sum())
        elif data.validation is not None and not self.num_validation:
            raise nothing_held_out(data)
        self._held_out = held_out
        self.num_repeated = self.num_unused = 0
        self._passes: dict[SplitName, list[_Pass]] = {
            "train": list(self._train_passes(data)),
            "validation": [_Pass(0, self.num_documents, held_out)] if self.num_validation else [],
        }
        self.counts: dict[SplitName, SplitCounts] = {name: SplitCounts() for name in self._passes}

    def _train_passes(self, data: DataConfig) -> Iterator[_Pass]:
        for number, source in enumerate(data.train):
            start, stop = self._ranges.get(number, (0, 0))
            if start == stop:
                continue
            keep = ~self._held_out[start:stop]
            left = np.flatnonzero(keep)
            repeats = int(source.weight)
            self.num_repeated += max(repeats - 1, 0) * len(left)
            for _ in range(repeats):
                yield _Pass(start, stop, keep)
            if source.weight > repeats:
                wanted = max(round((source.weight - repeats) * len(left)), int(not repeats))
                wanted = min(wanted, len(left))  # all of them may be held out
                draw = np.random.default_rng([data.seed, number]).permutation(left)[:wanted]
                drawn = np.zeros(stop - start, dtype=bool)
                drawn[draw] = True
                self.num_repeated += wanted if repeats else 0
                self.num_unused += 0 if repeats else len(left) - wanted
                yield _Pass(start, stop, drawn)

    def token_ids(self, split: SplitName) -> Iterator[TokenIds]:
        """Yield the ids of one split, with BOS and EOS around documents, and count them."""
        for ids, _ in self._begun_ids(split):
            yield ids

    def marked_ids(self, split: SplitName) -> Iterator[TokenIds]:
        """Yield the ids as `token_ids` does, the first of each document marked as such, uint32."""
        for ids, is_first in self._begun_ids(split):
            yield mark(ids, is_first, BEGINS)

    def placed(self, split: SplitName) -> PlacedDocuments:
        """Where the documents of one split are, in order; counts all but their highest id."""
        parts = [PlacedDocuments(*(np.zeros(0, np.int64) for _ in PlacedDocuments._fields))]
        for stretch, keep in self._kept(split):
            parts.append(
                PlacedDocuments(
                    encoded=np.full(int(keep.sum()), stretch.number),
                    starts=_starts(stretch)[:-1][keep],
                    tokens=stretch.rows["tokens"][keep].astype(np.int64) + 1,
                    documents=stretch.first + np.flatnonzero(keep),
                )
            )
        self.counts[split].bos = self.counts[split].documents * len(self._bos)
        return PlacedDocuments(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def mapped_ids(self) -> list[TokenIds]:
        """The ids of all encoded documents, mapped from disk, for `placed`."""
        return [one.mapped_ids() for one in self._encoded]

    @property
    def is_marked(self) -> bool:
        """Whether the ids say which tokens are trained on."""
        return any(one.stats.marked for one in self._encoded)

    def _kept(self, split: SplitName) -> Iterator[tuple[_Stretch, Mask]]:
        """Stretches with documents of one split, which of theirs those are; all are counted."""
        counts = self.counts[split] = SplitCounts()
        for start, stop, marked in self._passes[split]:
            for stretch in self._stretches():
                first, rows = stretch.first, stretch.rows
                begin, end = max(start - first, 0), min(stop - first, len(rows))
                if begin >= end:
                    continue
                keep = np.zeros(len(rows), dtype=bool)
                keep[begin:end] = marked[begin + first - start : end + first - start]
                kept = rows[keep]
                counts.documents += len(kept)
                counts.bytes += int(kept["bytes"].sum())
                counts.characters += int(kept["characters"].sum())
                counts.tokens += int(kept["tokens"].sum())
                yield stretch, keep

    def _begun_ids(self, split: SplitName) -> Iterator[tuple[TokenIds, Mask]]:
        """The ids of one split, and which of them are the first of a document."""
        for stretch, keep in self._kept(split):
            counts = self.counts[split]
            for run in _runs(stretch, keep):
                for ids, is_first in self._begun(stretch.encoded, run, counts):
                    counts.max_token_id = max(counts.max_token_id, int(strip(ids).max()))
                    yield ids, is_first

    def _begun(
        self, encoded: EncodedDocuments, starts: Places, counts: SplitCounts
    ) -> Iterator[tuple[TokenIds, Mask]]:
        """The ids of documents in a row, BOS before those that get it, and which are the first.

        Args:
            encoded: what they are of.
            starts: where each of them begins, and last of all where they end.
            counts: of the split.
        """
        at, end = int(starts[0]), int(starts[-1])
        for ids in encoded.token_ids(at, end, at_once=_TOKENS_AT_ONCE):
            firsts = starts[(starts >= at) & (starts < min(at + len(ids), end))] - at
            at += len(ids)
            begun = firsts
            if not self._begins_each:
                begun = begun[:0] if counts.bos else begun[:1]
            counts.bos += len(begun) * len(self._bos)
            if self._bos:
                ids = insert_bos(ids, begun, bos=self._bos)
                firsts = firsts + len(self._bos) * np.searchsorted(begun, firsts)
            is_first = np.zeros(len(ids), dtype=bool)
            is_first[firsts] = True
            yield ids, is_first

    def _stretches(self) -> Iterator[_Stretch]:
        """All documents, a bounded number at a time."""
        first = 0
        for number, encoded in enumerate(self._encoded):
            token = 0
            for start in range(0, len(encoded.rows), _ROWS_AT_ONCE):
                rows = np.array(encoded.rows[start : start + _ROWS_AT_ONCE])
                yield _Stretch(encoded, first, token, rows, number)
                token += int(rows["tokens"].sum()) + len(rows)  # an EOS after each
                first += len(rows)

    def place(self, document: int) -> tuple[int, int, int]:
        """Where a document stands: its text's number, which of its documents it is, of how many."""
        text = bisect_right(self._stops, document)
        number = document - (self._stops[text - 1] if text else 0) + 1
        return text, number, self._counts[text]

    def longest_and_shortest(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(document, tokens) of the longest document and of the shortest; the first of equals."""
        lengths: list[tuple[int, int]] = []
        for _, first, _, rows, _ in self._stretches():
            tokens = rows["tokens"]
            for at in (int(tokens.argmax()), int(tokens.argmin())):
                lengths.append((first + at, int(tokens[at])))
        return max(lengths, key=lambda it: it[1]), min(lengths, key=lambda it: it[1])

    def duplicates(self, *, at_most: int) -> tuple[int, list[tuple[int, int]]]:
        """How many documents are equal to an earlier one, and the first of them with that one."""
        slices = -(-self.num_documents // _SORTED_AT_ONCE)
        num_repeats = 0
        pairs: list[tuple[int, int]] = []
        for number in range(slices):  # of the range of the hash, so that a part is held at a time
            places, digests = self._digests_of_slice(number, slices)
            order = np.argsort(digests, kind="stable")
            places, digests = places[order], digests[order]
            repeats = np.flatnonzero(digests[1:] == digests[:-1]) + 1
            num_repeats += len(repeats)
            repeats = repeats[np.argsort(places[repeats])[:at_most]]
            firsts = np.searchsorted(digests, digests[repeats], side="left")
            pairs += zip(places[repeats].tolist(), places[firsts].tolist(), strict=True)
            pairs = sorted(pairs)[:at_most]
        return num_repeats, pairs

    def _digests_of_slice(self, number: int, slices: int) -> tuple[Places, npt.NDArray[np.uint64]]:
        """Places and digests of the documents whose digest falls to one slice of the range."""
        places, digests = [], []
        for _, first, _, rows, _ in self._stretches():
            mine = np.flatnonzero(rows["digest"] % slices == number)
            places.append(mine + first)
            digests.append(rows["digest"][mine])
        return np.concatenate(places), np.concatenate(digests)

    def held_out_duplicates(self) -> int:
        """How many held-out documents also stand in the train split."""
        if not self.num_validation:
            return 0
        trained: Mask = np.zeros(self.num_documents, dtype=bool)
        for start, stop, keep in self._passes["train"]:  # a weight below 1 leaves some out
            trained[start:stop] |= keep
        held_out = np.concatenate([*self._digests(self._held_out)])
        theirs, counts = np.unique(held_out, return_counts=True)
        found = np.zeros(len(theirs), dtype=bool)
        for digests in self._digests(trained):
            places = np.minimum(np.searchsorted(theirs, digests), len(theirs) - 1)
            found[places[theirs[places] == digests]] = True
        return int(counts[found].sum())

    def _digests(self, mask: Mask) -> Iterator[npt.NDArray[np.uint64]]:
        for _, first, _, rows, _ in self._stretches():
            yield rows["digest"][mask[first : first + len(rows)]]


def _ranges(counts: Sequence[int], numbers: Sequence[int]) -> dict[int, tuple[int, int]]:
    """For each source, its first document and the one after its last.

    >>> _ranges([2, 1, 4], [0, 0, 1])
    {0: (0, 3), 1: (3, 7)}
    """
    ranges: dict[int, tuple[int, int]] = {}
    first = 0
    for count, number in zip(counts, numbers, strict=True):
        start, _ = ranges.get(number, (first, first))
        ranges[number] = (start, first + count)
        first += count
    return ranges


def _starts(stretch: _Stretch) -> Places:
    """Where the ids of each row of a stretch begin, and last of all where they end."""
    lengths = stretch.rows["tokens"].astype(np.int64) + 1
    return stretch.token + np.concatenate([[0], np.cumsum(lengths)])


def _runs(stretch: _Stretch, keep: Mask) -> Iterator[Places]:
    """For each run of rows to keep, where their ids begin and where the last ends."""
    starts = _starts(stretch)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield starts[begin : end + 1]
