"""Spools -> the training part and the validation part, as streams of ids.

In: the spools of a corpus and the `data` section. Out: which documents are held out, drawn alike on
every machine; each part's ids, with the repetitions that weights ask for; and what was counted on
the way. Knows nothing of text or blocks.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from gptft.config.sections import DataConfig
from gptft.data.encoded_documents import DocumentRows, EncodedDocuments
from gptft.documents.held_out import Mask, draw_validation
from gptft.documents.sources import VALIDATION
from gptft.errors import DataError
from gptft.tokenization.token_ids import TokenIds

_ROWS_AT_ONCE = 65_536
_TOKENS_AT_ONCE = 1_000_000
_SORTED_AT_ONCE = 4_000_000  # hashes, 32 MB of them


@dataclass
class SplitCounts:
    """What went into one part; each repetition of a document counts."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    max_token_id: int = -1


@dataclass(frozen=True)
class _Pass:
    """Documents `start` to `stop` once; of them those that `keep` marks, or all."""

    start: int
    stop: int
    keep: Mask | None


class Split:
    """The documents of a corpus, and which of them stand in which part.

    Attributes:
        num_documents: of both parts, each counted once.
        num_validation: documents held out.
        num_repeated: repetitions that weights above 1 ask for.
        num_unused: documents that weights below 1 leave out.
        counts: of each part, filled in by `token_ids`.
    """

    def __init__(
        self, all_encoded: Sequence[EncodedDocuments], numbers: Sequence[int], data: DataConfig
    ) -> None:
        """Draw the validation part and what fractional weights keep.

        Args:
            all_encoded: in order; together they hold the documents of all texts.
            numbers: of each text, which entry of data.train named it, or VALIDATION.
            data: the config's data section.

        Raises:
            DataError: a part is empty, or there are too few documents to hold any out.
        """
        self._all_encoded = all_encoded
        self._rows = _JoinedRows([encoded.rows for encoded in all_encoded])
        counts = [count for encoded in all_encoded for count in encoded.stats.documents]
        self._counts, self._stops = counts, list(accumulate(counts))
        self._ranges = _ranges(counts, numbers)
        self.num_documents = sum(counts)
        num_train = self.num_documents - self._length(VALIDATION)
        if not num_train:
            files = sum(number != VALIDATION for number in numbers)
            plural = "s, and no text in any of them" if files > 1 else ", and no text in it"
            raise DataError(f"{data.train_names}: {files} file{plural}.")
        held_out: Mask | None = None
        self.num_validation = self._length(VALIDATION)
        if isinstance(data.validation, float):
            held_out = draw_validation(num_train, data, fraction=data.validation)
            self.num_validation = int(held_out.sum())
        elif data.validation is not None and not self.num_validation:
            raise DataError("data.validation: no text in any of its files.")
        self._held_out = held_out
        self.num_repeated = self.num_unused = 0
        self._passes = {
            "train": list(self._train_passes(data)),
            "validation": self._validation_passes(num_train),
        }
        self.counts = {part: SplitCounts() for part in self._passes}

    def _length(self, number: int) -> int:
        start, stop = self._ranges.get(number, (0, 0))
        return stop - start

    def _train_passes(self, data: DataConfig) -> Iterator[_Pass]:
        for number, source in enumerate(data.train):
            start, stop = self._ranges.get(number, (0, 0))
            if start == stop:
                continue
            keep = None if self._held_out is None else ~self._held_out[start:stop]
            whole = int(source.weight)
            num_left = stop - start if keep is None else int(keep.sum())
            self.num_repeated += max(whole - 1, 0) * num_left
            for _ in range(whole):
                yield _Pass(start, stop, keep)
            if source.weight > whole:
                left = np.arange(stop - start) if keep is None else np.flatnonzero(keep)
                wanted = max(round((source.weight - whole) * num_left), int(not whole))
                wanted = min(wanted, num_left)  # all of them may be held out
                draw = np.random.default_rng([data.seed, number]).permutation(left)[:wanted]
                drawn = np.zeros(stop - start, dtype=bool)
                drawn[draw] = True
                self.num_repeated += wanted if whole else 0
                self.num_unused += 0 if whole else num_left - wanted
                yield _Pass(start, stop, drawn)

    def _validation_passes(self, num_train: int) -> list[_Pass]:
        if self._held_out is not None:
            return [_Pass(0, num_train, self._held_out)]
        return [_Pass(*self._ranges[VALIDATION], None)] if self.num_validation else []

    def token_ids(self, part: str) -> Iterator[TokenIds]:
        """Yield the ids of `train` or `validation`, EOS after each document, and count them."""
        counts = self.counts[part] = SplitCounts()
        for one in self._passes[part]:
            for encoded, start, stop, first_token, rows in self._chunks(one):
                keep = None if one.keep is None else one.keep[start - one.start : stop - one.start]
                kept = rows if keep is None else rows[keep]
                counts.documents += len(kept)
                counts.bytes += int(kept["bytes"].sum())
                counts.characters += int(kept["characters"].sum())
                counts.tokens += int(kept["tokens"].sum())
                for begin, end in _runs(rows, keep):
                    for ids in encoded.token_ids(
                        first_token + begin, first_token + end, at_once=_TOKENS_AT_ONCE
                    ):
                        counts.max_token_id = max(counts.max_token_id, int(ids.max()))
                        yield ids

    def _chunks(self, one: _Pass) -> Iterator[tuple[EncodedDocuments, int, int, int, DocumentRows]]:
        """The rows of a pass, a bounded number at a time, and where their ids begin."""
        first = 0
        for encoded in self._all_encoded:
            token = 0
            for start in range(0, len(encoded.rows), _ROWS_AT_ONCE):
                rows = np.array(encoded.rows[start : start + _ROWS_AT_ONCE])
                begin = max(one.start - first - start, 0)
                end = min(one.stop - first - start, len(rows))
                if begin < end:
                    before = int(rows["tokens"][:begin].sum()) + begin
                    place = first + start
                    yield encoded, place + begin, place + end, token + before, rows[begin:end]
                token += int(rows["tokens"].sum()) + len(rows)
            first += len(encoded.rows)

    def place(self, document: int) -> tuple[int, int, int]:
        """Where a document stands: its text's number, which of its documents it is, of how many."""
        text = bisect_right(self._stops, document)
        number = document - (self._stops[text - 1] if text else 0) + 1
        return text, number, self._counts[text]

    def longest_and_shortest(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(document, tokens) of the longest document and of the shortest."""
        longest, shortest = (0, -1), (0, -1)
        first = 0
        for rows in self._rows.chunks():
            tokens = rows["tokens"]
            high, low = int(tokens.argmax()), int(tokens.argmin())
            if int(tokens[high]) > longest[1]:
                longest = (first + high, int(tokens[high]))
            if shortest[1] < 0 or int(tokens[low]) < shortest[1]:
                shortest = (first + low, int(tokens[low]))
            first += len(rows)
        return longest, shortest

    def duplicates(self, *, at_most: int) -> tuple[int, list[tuple[int, int]]]:
        """How many documents are equal to an earlier one, and some of them with the earlier one."""
        return self._rows.duplicates(at_most=at_most)

    def held_out_duplicates(self) -> int:
        """How many held-out documents also stand in the training part."""
        if not self.num_validation:
            return 0
        held_out = self._mask_of_held_out()
        theirs, counts = np.unique(np.concatenate([*self._digests(held_out)]), return_counts=True)
        found = np.zeros(len(theirs), dtype=bool)
        for digests in self._digests(~held_out):
            places = np.minimum(np.searchsorted(theirs, digests), len(theirs) - 1)
            found[places[theirs[places] == digests]] = True
        return int(counts[found].sum())

    def _mask_of_held_out(self) -> Mask:
        mask = np.zeros(self.num_documents, dtype=bool)
        if self._held_out is not None:
            mask[: len(self._held_out)] = self._held_out
        else:
            mask[slice(*self._ranges[VALIDATION])] = True
        return mask

    def _digests(self, mask: Mask) -> Iterator[npt.NDArray[np.uint64]]:
        first = 0
        for rows in self._rows.chunks():
            yield rows["digest"][mask[first : first + len(rows)]]
            first += len(rows)


class _JoinedRows:
    """The rows of several spools as one table, read a bounded number at a time."""

    def __init__(self, tables: Sequence[DocumentRows]) -> None:
        self._tables = tables

    def chunks(self) -> Iterator[DocumentRows]:
        for table in self._tables:
            for start in range(0, len(table), _ROWS_AT_ONCE):
                yield np.array(table[start : start + _ROWS_AT_ONCE])

    def duplicates(self, *, at_most: int) -> tuple[int, list[tuple[int, int]]]:
        """How many rows have an earlier row's digest, and the first of them with that row."""
        length = sum(map(len, self._tables))
        slices = -(-length // _SORTED_AT_ONCE)
        count = 0
        pairs: list[tuple[int, int]] = []
        for number in range(slices):
            places, digests = self._of_slice(number, slices)
            order = np.argsort(digests, kind="stable")
            places, digests = places[order], digests[order]
            repeats = np.flatnonzero(digests[1:] == digests[:-1]) + 1
            count += len(repeats)
            repeats = repeats[np.argsort(places[repeats])[:at_most]]
            firsts = np.searchsorted(digests, digests[repeats], side="left")
            pairs += zip(places[repeats].tolist(), places[firsts].tolist(), strict=True)
            pairs = sorted(pairs)[:at_most]
        return count, pairs

    def _of_slice(
        self, number: int, slices: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Places and digests of the rows whose digest falls to one slice of the hash's range."""
        places, digests = [], []
        first = 0
        for rows in self.chunks():
            mine = np.flatnonzero(rows["digest"] % slices == number)
            places.append(mine + first)
            digests.append(rows["digest"][mine])
            first += len(rows)
        return np.concatenate(places), np.concatenate(digests)


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


def _runs(rows: DocumentRows, keep: Mask | None) -> Iterator[tuple[int, int]]:
    """The stretches of ids to take from a chunk: from where, and up to where."""
    stops = np.cumsum(rows["tokens"].astype(np.int64) + 1)
    if keep is None:
        yield 0, int(stops[-1])
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]])))
    starts = np.concatenate([[0], stops])
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield int(starts[begin]), int(starts[end])
