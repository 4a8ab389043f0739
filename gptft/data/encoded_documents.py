"""Scanned texts and a tokenizer -> every document's ids on disk, in order, not packed yet.

What is held out, repeated or dropped is decided when they are packed; so a corpus encoded in shards
gives the very blocks of the corpus encoded in one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from gptft.config.data import DataConfig
from gptft.console import Notify
from gptft.documents.formats.plain_text import Chunk
from gptft.documents.scan import Progress, ScannedText
from gptft.errors import DataError
from gptft.files import read_json, write_json
from gptft.tokenization.batches import Batch, encodable_chunks, encode_batches
from gptft.tokenization.encoder import Engine, choose_engine, with_engine
from gptft.tokenization.token_ids import TokenIds, token_dtype
from gptft.tokenization.tokenizer import TextTokenizer

# One row a document: its length in tokens (EOS left out), in UTF-8 and in characters, and a hash of
# its ids, by which equal documents are found.
DOCUMENT = np.dtype([("tokens", "<u8"), ("bytes", "<u8"), ("characters", "<u8"), ("digest", "<u8")])
DocumentRows = npt.NDArray[Any]  # of dtype DOCUMENT

_TOKENS = "tokens.bin"
_DOCUMENTS = "documents.bin"
_STATS = "encoded.json"


@dataclass(frozen=True)
class EncodedStats:
    """What is known of encoded documents besides their ids.

    Attributes:
        engine: what encoded them.
        dtype: of the ids, as NumPy names it.
        documents: how many each text gave, empty ones left out.
        empty: how many empty ones each text had.
        marked: whether the ids say which tokens are trained on; see `gptft.data.marked_ids`.
        unanswered: how many conversations of each text were left out: nothing of them is learned.
        answers: of conversations.
    """

    engine: str
    dtype: str
    documents: tuple[int, ...]
    empty: tuple[int, ...]
    marked: bool = False
    unanswered: tuple[int, ...] = ()
    answers: int = 0


def write_stats(folder: Path, stats: EncodedStats) -> None:
    """Keep what is known of the documents encoded in `folder`."""
    write_json(folder / _STATS, stats)


def encode_documents(
    texts: Sequence[ScannedText],
    data: DataConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
    notify: Notify,
) -> EncodedStats:
    """Read and encode all documents of `texts` into `folder`.

    Args:
        texts: scanned texts, in the order their documents are to have.
        data: the config's data section.
        tokenizer: what encodes them.
        folder: an existing folder.
        engine: what encodes, as long as it agrees with `tokenizers`; None for the fastest.
        progress: told ("tokenizing", bytes done, bytes in all).
        notify: told in a sentence why the fast engine is given up, where it is.

    Raises:
        DataError: a text can't be read, or changed since it was scanned.
        ModelError: the tokenizer has no EOS.
    """

    def encode(engine: Engine) -> EncodedStats:
        return _encode(texts, data, tokenizer, folder, engine=engine, progress=progress)

    return with_engine(engine or choose_engine(tokenizer, notify), tokenizer, encode, notify)


def _encode(
    texts: Sequence[ScannedText],
    data: DataConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine,
    progress: Progress | None,
) -> EncodedStats:
    dtype, eos = token_dtype(tokenizer.vocab_size), tokenizer.require_eos()
    documents, empty = [0] * len(texts), [0] * len(texts)
    read_before = [0, *accumulate(text.facts.num_bytes for text in texts)]

    def chunks() -> Iterator[tuple[int, Chunk]]:
        for number, chunk in encodable_chunks(texts, data, engine):
            if chunk.text:
                documents[number] += chunk.ends
                yield number, chunk
            else:
                empty[number] += 1

    counter = _DocumentCounter()
    with (folder / _TOKENS).open("wb") as tokens, (folder / _DOCUMENTS).open("wb") as rows:
        for batch, (ids, lengths) in encode_batches(chunks(), engine):
            stops = np.cumsum(lengths)
            ended = with_eos(ids, stops[np.array(batch.ends)], eos=eos, dtype=dtype)
            # Not ndarray.tofile: on a full disk its error doesn't say so.
            tokens.write(ended.view(np.uint8).data)
            rows.write(counter.rows_of(batch, ids, stops).tobytes())
            if progress:
                done = max(read_before[batch.file], counter.num_bytes)
                progress("tokenizing", min(done, read_before[-1]), read_before[-1])
    stats = EncodedStats(engine.name, np.dtype(dtype).name, tuple(documents), tuple(empty))
    write_stats(folder, stats)
    return stats


def with_eos(
    ids: TokenIds, stops: npt.NDArray[np.int64], *, eos: int, dtype: npt.DTypeLike
) -> TokenIds:
    """The ids of a batch with an EOS after each document.

    Args:
        ids: of documents, the last of which may be unfinished, shape (T,).
        stops: where each one ends, shape (D,).
        eos: the id.
        dtype: of the result, shape (T + D,).
    """
    # By slices: `np.insert` sorts and takes five arrays of T.
    found = np.empty(len(ids) + len(stops), dtype)
    start = 0
    for number, stop in enumerate(stops.tolist()):
        found[start + number : stop + number] = ids[start:stop]
        found[stop + number] = eos
        start = stop
    found[start + len(stops) :] = ids[start:]
    return found


class _DocumentCounter:
    """Counts tokens, bytes and characters of documents, one of which a batch may leave unfinished.

    Attributes:
        num_bytes: UTF-8 of all text counted so far.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._start()

    def _start(self) -> None:
        self._tokens = self._bytes = self._characters = 0
        self._hash = xxhash.xxh3_64()

    def rows_of(self, batch: Batch, ids: TokenIds, stops: npt.NDArray[np.int64]) -> DocumentRows:
        """A row for each document that ends in the batch.

        Args:
            batch: of N chunks.
            ids: of all chunks, shape (T,).
            stops: where each chunk's ids end, shape (N,).
        """
        rows = []
        raw, width, start = ids.view(np.uint8).data, ids.itemsize, 0
        for text, ends, stop in zip(batch.texts, batch.ends, stops.tolist(), strict=True):
            # The engine has made the bytes of what isn't ASCII already.
            num_bytes = len(text) if text.isascii() else len(text.encode())
            self.num_bytes += num_bytes
            self._tokens += stop - start
            self._bytes += num_bytes
            self._characters += len(text)
            self._hash.update(raw[start * width : stop * width])
            start = stop
            if ends:
                digest = self._hash.intdigest()
                rows.append((self._tokens, self._bytes, self._characters, digest))
                self._start()
        return np.array(rows, dtype=DOCUMENT)


class EncodedDocuments:
    """Read access to encoded documents, in stretches of bounded size.

    Attributes:
        stats: what `encode_documents` said of them.
        rows: a row for each document, of dtype DOCUMENT, mapped from disk.
    """

    def __init__(self, folder: Path) -> None:
        """Open what `encode_documents` wrote into `folder`."""
        values = read_json(folder / _STATS)
        documents, empty = tuple(values["documents"]), tuple(values["empty"])
        marked = bool(values.get("marked", False))
        self.stats = EncodedStats(
            values["engine"], values["dtype"], documents, empty, marked,
            tuple(values.get("unanswered", ())), values.get("answers", 0),
        )  # fmt: skip
        self._path = folder / _TOKENS
        size = (folder / _DOCUMENTS).stat().st_size // DOCUMENT.itemsize
        self.rows: DocumentRows = np.zeros(0, dtype=DOCUMENT)
        if size:  # an empty file can't be mapped
            self.rows = np.memmap(folder / _DOCUMENTS, dtype=DOCUMENT, mode="r")

    def mapped_ids(self) -> TokenIds:
        """All ids, mapped from disk.

        Raises:
            DataError: the file of ids is shorter than its documents.
        """
        expected = int(self.rows["tokens"].sum()) + len(self.rows)  # an EOS after each
        dtype = np.dtype(self.stats.dtype)
        if self._path.stat().st_size < expected * dtype.itemsize:
            raise DataError(f"{self._path} ends before its last document. Encode it again.")
        if not expected:
            return np.zeros(0, dtype=dtype)
        # A plain array on the file: slices of a memmap take several times as long to make.
        return np.asarray(np.memmap(self._path, dtype=dtype, mode="r", shape=(expected,)))

    def token_ids(self, start: int, stop: int, *, at_once: int) -> Iterator[TokenIds]:
        """Yield the ids from place `start` to `stop` of the whole stream, `at_once` at a time.

        Raises:
            DataError: the file of ids ends before `stop`.
        """
        dtype = np.dtype(self.stats.dtype)
        with self._path.open("rb") as file:
            file.seek(start * dtype.itemsize)
            while start < stop:
                ids = np.fromfile(file, dtype=dtype, count=min(at_once, stop - start))
                if not len(ids):  # cut short since it was checked: this loop would never end
                    raise DataError(f"{self._path} ends before its last document. Encode it again.")
                yield ids
                start += len(ids)
