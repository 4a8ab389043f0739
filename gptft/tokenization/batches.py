"""Scanned texts -> batches of text that an engine can encode, and what is made of each, in order.

Memory stays flat however long a document is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from gptft.config.data import DataConfig
from gptft.documents.formats.plain_text import Chunk
from gptft.documents.read import read_documents
from gptft.documents.scan import ScannedText
from gptft.tokenization.encoder import Engine, Lengths, find_first_cut
from gptft.tokenization.token_ids import TokenIds

_BATCH_DOCUMENTS = 4096  # at most: each short one has a cost of its own in an engine
_PASSAGE_CHARACTERS = 10_000

T = TypeVar("T")


class Batch(NamedTuple):
    """So much text as an engine takes at once.

    Attributes:
        texts: documents, or chunks of long ones.
        ends: of each, whether a document ends with it.
        start: characters of all batches before it.
        file: the number of the text that its last chunk is of.
    """

    texts: list[str]
    ends: list[bool]
    start: int
    file: int

    @property
    def num_documents(self) -> int:
        """How many documents end in it."""
        return sum(self.ends)


def encodable_chunks(
    texts: Sequence[ScannedText], data: DataConfig, engine: Engine
) -> Iterator[tuple[int, Chunk]]:
    """Documents, those too long for one call cut where their ids don't change.

    Yields:
        the number of the text, and a chunk of it; an empty document is one empty chunk.

    Raises:
        DataError: a text can't be read, changed since it was scanned, or can't be cut.
    """
    limit = engine.cut_characters
    for number, text in enumerate(texts):
        held = ""
        for chunk, ends in read_documents(text, data):
            if ends and not held and len(chunk) <= limit:
                yield number, Chunk(chunk, True)
                continue
            for at in range(0, len(chunk), limit):  # a record may be as long as it likes
                held += chunk[at : at + limit]
                while len(held) > limit:
                    place = find_first_cut(held, engine=engine, name=text.source.name)
                    if place is None:
                        break
                    yield number, Chunk(held[:place], False)
                    held = held[place:]
            if ends:
                yield number, Chunk(held, True)
                held = ""


def make_batches(chunks: Iterable[tuple[int, Chunk]], engine: Engine) -> Iterator[Batch]:
    """Collect chunks, each with the number of its text, until an engine has enough to do."""
    texts: list[str] = []
    ends: list[bool] = []
    length = start = number = 0
    for number, chunk in chunks:
        texts.append(chunk.text)
        ends.append(chunk.ends)
        length += len(chunk.text)
        if length >= engine.batch_characters or len(texts) >= _BATCH_DOCUMENTS:
            yield Batch(texts, ends, start, number)
            texts, ends, start, length = [], [], start + length, 0
    if texts:
        yield Batch(texts, ends, start, number)


def map_batches(
    batches: Iterable[Batch], function: Callable[[Batch], T], *, workers: int
) -> Iterator[tuple[Batch, T]]:
    """Each batch with what `function` gives for it, in order; `workers` threads call it.

    Besides the batches at work one is read ahead, and no more.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    running: deque[tuple[Batch, Future[T]]] = deque()
    try:
        for batch in batches:
            running.append((batch, pool.submit(function, batch)))
            if len(running) > workers + 1:
                done, future = running.popleft()
                yield done, future.result()
        while running:
            done, future = running.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def encode_batches(
    chunks: Iterable[tuple[int, Chunk]], engine: Engine
) -> Iterator[tuple[Batch, tuple[TokenIds, Lengths]]]:
    """Batches of chunks, each with the ids of its texts in one array and how many each has."""
    batches = make_batches(chunks, engine)
    return map_batches(batches, lambda batch: engine.encode(batch.texts), workers=engine.workers)


def measure_batches(
    texts: Sequence[ScannedText], data: DataConfig, *, engine: Engine, measure: Callable[[Batch], T]
) -> Iterator[tuple[Batch, T]]:
    """Give every batch of some texts to `measure`, which `engine.workers` threads call at a time.

    Empty documents are left out.

    Raises:
        DataError: a text can't be read, or changed since it was scanned.
    """
    chunks = ((n, chunk) for n, chunk in encodable_chunks(texts, data, engine) if chunk.text)
    return map_batches(make_batches(chunks, engine), measure, workers=engine.workers)


def read_passages(texts: Sequence[ScannedText], data: DataConfig) -> Iterator[tuple[int, str]]:
    """Documents in passages of at most 10,000 characters, with the number of the text each is of.

    A long document is cut before white space where it has any. Empty documents are left out.
    """
    for number, text in enumerate(texts):
        held = ""
        for chunk, ends in read_documents(text, data):
            held += chunk
            start = 0
            while len(held) - start > _PASSAGE_CHARACTERS:
                stop = start + _PASSAGE_CHARACTERS
                space = max(held.rfind(mark, start + 1, stop) for mark in " \n")
                stop = space if space > start else stop
                yield number, held[start:stop]
                start = stop
            held = held[start:]
            if ends:
                if held:
                    yield number, held
                held = ""
