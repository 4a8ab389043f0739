"""Surveyed texts -> what is measured of them, batch by batch, on as many threads as are of use.

In: texts, an engine, and a function of one batch. Out: that function's results, in the order of the
texts. Memory stays flat however long a document is. Nothing is written. Must not import torch or
transformers.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from gptft.config.sections import DataConfig
from gptft.documents.read import read_documents
from gptft.documents.scan import ScannedText
from gptft.tokenization.encoder import Engine, find_first_cut

_BATCH_DOCUMENTS = 4096
_PASSAGE_CHARACTERS = 10_000

T = TypeVar("T")


class Batch(NamedTuple):
    """So much text as an engine takes at once.

    Attributes:
        texts: documents, or parts of long ones.
        num_documents: how many documents end in it.
        start: characters of all batches before it.
        file: the number of the text that its last part is of.
    """

    texts: list[str]
    num_documents: int
    start: int
    file: int


def measure_batches(
    texts: Sequence[ScannedText],
    data: DataConfig,
    *,
    engine: Engine,
    measure: Callable[[Batch], T],
) -> Iterator[tuple[Batch, T]]:
    """Give every batch of some texts to `measure`, which `engine.workers` threads call at a time.

    Empty documents are left out.

    Raises:
        DataError: a text can't be read, or changed since it was surveyed.
    """
    workers = ThreadPoolExecutor(max_workers=engine.workers)
    running: deque[tuple[Batch, Future[T]]] = deque()
    try:
        for batch in _batches(texts, data, engine):
            running.append((batch, workers.submit(measure, batch)))
            if len(running) > engine.workers + 1:
                done, future = running.popleft()
                yield done, future.result()
        while running:
            done, future = running.popleft()
            yield done, future.result()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


def _batches(texts: Sequence[ScannedText], data: DataConfig, engine: Engine) -> Iterator[Batch]:
    held: list[str] = []
    length = num_documents = start = number = 0
    for number, text in enumerate(texts):
        for part, ends in _parts(text, data, engine):
            held.append(part)
            length += len(part)
            num_documents += ends
            if length >= engine.batch_characters or len(held) >= _BATCH_DOCUMENTS:
                yield Batch(held, num_documents, start, number)
                held, start, length, num_documents = [], start + length, 0, 0
    if held:
        yield Batch(held, num_documents, start, number)


def _parts(text: ScannedText, data: DataConfig, engine: Engine) -> Iterator[tuple[str, bool]]:
    """Documents, those that are too long for one call cut where their ids don't change."""
    limit, name = engine.cut_characters, text.source.name
    held = ""
    begun = False
    for piece, ends in read_documents(text, data):
        if ends and not piece and not begun:
            continue
        for at in range(0, len(piece), limit):  # a record may be as long as it likes
            held += piece[at : at + limit]
            while len(held) > limit:
                place = find_first_cut(held, engine=engine, name=name)
                if place is None:
                    break
                yield held[:place], False
                held = held[place:]
        begun = not ends
        if ends:
            yield held, True
            held = ""


def read_passages(texts: Sequence[ScannedText], data: DataConfig) -> Iterator[tuple[int, str]]:
    """Documents in passages of at most 10,000 characters, with the number of the text each is of.

    A long document is cut before white space where it has any. Empty documents are left out.
    """
    for number, text in enumerate(texts):
        held = ""
        for piece, ends in read_documents(text, data):
            held += piece
            start = 0
            while len(held) - start > _PASSAGE_CHARACTERS:
                stop = _before_space(held, start, start + _PASSAGE_CHARACTERS)
                yield number, held[start:stop]
                start = stop
            held = held[start:]
            if ends:
                if held:
                    yield number, held
                held = ""


def _before_space(text: str, start: int, stop: int) -> int:
    """The last place up to `stop` that has white space after it; `stop` where there is none."""
    place = max(text.rfind(mark, start + 1, stop) for mark in " \n")
    return place if place > start else stop
