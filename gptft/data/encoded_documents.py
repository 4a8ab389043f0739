"""Documents -> a spool: their ids on disk, one after the other, before they are packed.

In: surveyed texts and a tokenizer. Out: a folder with every document's ids, EOS after each, and a
row of figures for each document. What is held out, repeated or dropped is decided when a spool is
packed; so the spools of a corpus read in shards give the very blocks of the corpus read in one.
Must not import torch or transformers.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xxhash

from gptft.config.sections import DataConfig
from gptft.documents.read import Chunk, read_documents
from gptft.documents.scan import Progress, ScannedText
from gptft.files import as_json, read_json, write_text
from gptft.tokenization.encoder import (
    Engine,
    EngineDisagreesError,
    Lengths,
    TokenizersEngine,
    find_first_cut,
    reason_for_slow_engine,
)
from gptft.tokenization.token_ids import TokenIds, token_dtype
from gptft.tokenization.tokenizer import TextTokenizer

# One row a document: its length in tokens (EOS left out), in UTF-8 and in characters, and a hash of
# its ids, by which equal documents are found.
DOCUMENT = np.dtype([("tokens", "<u8"), ("bytes", "<u8"), ("characters", "<u8"), ("digest", "<u8")])
Rows = npt.NDArray[Any]  # of dtype DOCUMENT

_TOKENS = "tokens.bin"
_DOCUMENTS = "documents.bin"
_ENCODED = "spool.json"
_BATCH_DOCUMENTS = 4096


@dataclass(frozen=True)
class EncodedStats:
    """What a spool holds besides the ids.

    Attributes:
        engine: what encoded it.
        dtype: of the ids, as NumPy names it.
        documents: how many each text gave, empty ones left out.
        empty: how many empty ones each text had.
    """

    engine: str
    dtype: str
    documents: tuple[int, ...]
    empty: tuple[int, ...]


def encode_documents(
    texts: Sequence[ScannedText],
    data: DataConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine,
    progress: Progress | None = None,
    notify: Callable[[str], None],
) -> EncodedStats:
    """Read and encode all documents of `texts` into `folder`.

    Args:
        texts: surveyed texts, in the order their documents are to have.
        data: the config's data section.
        tokenizer: what encodes them.
        folder: an existing folder.
        engine: what encodes, as long as it agrees with `tokenizers`.
        progress: told ("tokenizing", bytes done, bytes in all).
        notify: told in a sentence why the fast engine is given up, where it is.

    Raises:
        DataError: a text can't be read, or changed since it was surveyed.
        ModelError: the tokenizer has no EOS.
    """
    try:
        return _write(texts, data, tokenizer, folder, engine=engine, progress=progress)
    except EngineDisagreesError as error:
        notify(reason_for_slow_engine(error))
        engine = TokenizersEngine(tokenizer)
        return _write(texts, data, tokenizer, folder, engine=engine, progress=progress)


def _write(
    texts: Sequence[ScannedText],
    data: DataConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine,
    progress: Progress | None,
) -> EncodedStats:
    dtype = token_dtype(tokenizer.vocab_size)
    documents, empty = [0] * len(texts), [0] * len(texts)
    total = sum(text.facts.num_bytes for text in texts)
    read = 0
    with (
        (folder / _TOKENS).open("wb") as tokens,
        (folder / _DOCUMENTS).open("wb") as rows,
        _Writer(engine, tokens, rows, eos=tokenizer.require_eos(), dtype=dtype) as writer,
    ):
        for number, text in enumerate(texts):
            begun = False
            for piece in read_documents(text, data):
                if piece.ends and not piece.text and not begun:
                    empty[number] += 1
                    continue
                documents[number] += piece.ends
                begun = not piece.ends
                writer.add(piece, name=text.source.name)
                if progress:
                    progress("tokenizing", min(max(read, writer.num_bytes), total), total)
            read += text.facts.num_bytes
    facts = EncodedStats(engine.name, np.dtype(dtype).name, tuple(documents), tuple(empty))
    write_text(folder / _ENCODED, json.dumps(as_json(facts)))
    return facts


class _Writer:
    """Collects pieces into batches, encodes several at a time, and writes them in order."""

    def __init__(
        self,
        engine: Engine,
        tokens: BinaryIO,
        rows: BinaryIO,
        *,
        eos: int,
        dtype: type[np.unsignedinteger],
    ) -> None:
        self._engine, self._tokens, self._rows = engine, tokens, rows
        self._eos, self._dtype = eos, dtype
        self._batch: list[Chunk] = []
        self._batch_characters = 0
        self._long: list[str] = []  # of a document longer than may be encoded at once
        self._long_characters = 0
        self._documents = _Documents()
        self._workers = ThreadPoolExecutor(max_workers=engine.workers)
        self._running: deque[tuple[list[Chunk], Future[tuple[TokenIds, Lengths]]]] = deque()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            if error_type is None:
                self._flush()
                self._write_encoded(at_most_running=0)
        finally:
            self._workers.shutdown(wait=True, cancel_futures=True)

    @property
    def num_bytes(self) -> int:
        """UTF-8 of the documents written so far."""
        return self._documents.num_bytes

    def add(self, piece: Chunk, *, name: str) -> None:
        """Take one piece; `name` is its file's, for messages."""
        limit = self._engine.cut_characters
        for start in range(0, len(piece.text), limit):
            self._long.append(piece.text[start : start + limit])
            self._long_characters += len(self._long[-1])
            if self._long_characters > limit:
                self._cut(name=name)
        if piece.ends:
            self._put("".join(self._long), ends=True)
            self._long, self._long_characters = [], 0

    def _cut(self, *, name: str) -> None:
        """Put all that may be encoded apart from the rest of its document."""
        text = "".join(self._long)
        limit, engine = self._engine.cut_characters, self._engine
        while len(text) > limit:
            place = find_first_cut(text, engine=engine, name=name)
            if place is None:
                break
            self._put(text[:place], ends=False)
            text = text[place:]
        self._long, self._long_characters = [text], len(text)

    def _put(self, text: str, *, ends: bool) -> None:
        self._batch.append(Chunk(text, ends))
        self._batch_characters += len(text)
        full = self._batch_characters >= self._engine.batch_characters
        if full or len(self._batch) >= _BATCH_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            texts = [piece.text for piece in self._batch]
            self._running.append((self._batch, self._workers.submit(self._engine.encode, texts)))
        self._batch, self._batch_characters = [], 0
        self._write_encoded(at_most_running=self._engine.workers + 1)

    def _write_encoded(self, *, at_most_running: int) -> None:
        while len(self._running) > at_most_running:
            batch, encoded = self._running.popleft()
            self._write(batch, *encoded.result())

    def _write(self, batch: Sequence[Chunk], ids: TokenIds, lengths: Lengths) -> None:
        ends = np.array([piece.ends for piece in batch])
        stops = np.cumsum(lengths)
        with_eos = np.insert(ids, stops[ends], self._eos).astype(self._dtype, copy=False)
        # Not ndarray.tofile: on a full disk its error doesn't say so.
        self._tokens.write(with_eos.view(np.uint8).data)
        self._rows.write(self._documents.close_all(batch, ids, stops).tobytes())


class _Documents:
    """The figures of documents, one of which a batch may leave unfinished."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._start()

    def _start(self) -> None:
        self._tokens = self._bytes = self._characters = 0
        self._hash = xxhash.xxh3_64()

    def close_all(
        self, batch: Sequence[Chunk], ids: TokenIds, stops: npt.NDArray[np.int64]
    ) -> Rows:
        """A row of figures for each document that ends in the batch."""
        rows = []
        raw = ids.view(np.uint8).data
        width, start = ids.itemsize, 0
        for (text, ends), stop in zip(batch, stops.tolist(), strict=True):
            self._tokens += stop - start
            num_bytes = len(text.encode())  # cheap here: the engine has made it already
            self._bytes += num_bytes
            self.num_bytes += num_bytes
            self._characters += len(text)
            self._hash.update(raw[start * width : stop * width])
            start = stop
            if ends:
                digest = self._hash.intdigest()
                rows.append((self._tokens, self._bytes, self._characters, digest))
                self._start()
        return np.array(rows, dtype=DOCUMENT)


class EncodedDocuments:
    """Read access to a spool, in stretches of bounded size.

    Attributes:
        facts: what `encode_documents` said of it.
        rows: a row of figures for each document, of dtype DOCUMENT, mapped from disk.
    """

    def __init__(self, folder: Path) -> None:
        """Open the spool in `folder`."""
        values = read_json(folder / _ENCODED)
        documents, empty = tuple(values["documents"]), tuple(values["empty"])
        self.facts = EncodedStats(values["engine"], values["dtype"], documents, empty)
        self._path = folder / _TOKENS
        size = (folder / _DOCUMENTS).stat().st_size // DOCUMENT.itemsize
        self.rows: Rows = np.zeros(0, dtype=DOCUMENT)
        if size:
            self.rows = np.memmap(folder / _DOCUMENTS, dtype=DOCUMENT, mode="r")

    def token_ids(self, start: int, stop: int, *, at_once: int) -> Iterator[TokenIds]:
        """Yield the ids from place `start` to `stop` of the spool, at most `at_once` at a time."""
        dtype = np.dtype(self.facts.dtype)
        with self._path.open("rb") as file:
            file.seek(start * dtype.itemsize)
            while start < stop:
                ids = np.fromfile(file, dtype=dtype, count=min(at_once, stop - start))
                yield ids
                start += len(ids)
