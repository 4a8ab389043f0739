"""Names of models and a corpus -> what each model made of each document."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from gptft.analysis.evaluate.corpus import Corpus, Document
from gptft.analysis.evaluate.measure import Asked, measure_documents
from gptft.analysis.evaluate.results import DocumentTable, Evaluation, ModelScores
from gptft.console import Notify, silent, stage
from gptft.decoding.loaded_model import open_model
from gptft.documents.scan import Progress
from gptft.errors import DataError
from gptft.models.precision import DtypeName
from gptft.terminal.words import count

# What opens a bar that shows progress, where there is one to show it to.
Bar = Callable[[], AbstractContextManager[Progress | None]]


def evaluate(
    model_names: Sequence[str],
    corpus: Corpus,
    *,
    asked: Asked,
    seed: int = 0,
    dtype: DtypeName = "auto",
    use_cpu: bool = False,
    bar: Bar = nullcontext,
    notify: Notify = silent,
) -> Evaluation:
    """Score the documents of a corpus by each model, one model loaded at a time.

    Args:
        model_names: at least one.
        corpus: read once a model.
        asked: how documents are read.
        seed: of the resampling.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.
        bar: opened for each model, and told (what is done, bytes done, bytes in all).
        notify: told what can't be compared.

    Raises:
        ConfigError: a window or EOS that a model can't have.
        DataError: there is no document, or a text can't be read.
        ModelError: a model can't be found, read or scored with.
    """
    scores: list[ModelScores] = []
    table: DocumentTable | None = None
    for name in model_names:
        with stage(f"Loading {name}"):
            model, tokenizer = open_model(name, dtype=dtype, use_cpu=use_cpu)
        listed = _Listed(corpus.documents())
        with bar() as progress:
            advance = _Advance(progress, f"Evaluating {name}", corpus.num_bytes)
            scores.append(
                measure_documents(name, model, tokenizer, listed, asked=asked, advance=advance)
            )
        del model, tokenizer
        table = _same(table, listed.table(corpus.sources))
        if not len(table):
            raise DataError(f"There is no text in {' and '.join(corpus.sources)}. Name another.")
        for sentence in _remarks(scores[-1], len(table)):
            notify(sentence)
    if table is None:
        raise ValueError("no model is named")
    return Evaluation(table, scores, asked.counts_eos, seed)


class _Advance:
    """Adds up the bytes that are done."""

    def __init__(self, progress: Progress | None, doing: str, total: int) -> None:
        self._progress, self._doing, self._total, self._done = progress, doing, total, 0

    def __call__(self, num_bytes: int) -> None:
        self._done += num_bytes
        if self._progress:
            # In UTF-8, where the file may have another encoding, or fields beside the text.
            total = max(self._total, 1)
            self._progress(self._doing, min(self._done, total), total)


class _Listed:
    """Documents as they are read, and where each of them stood."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = documents
        self._places: list[tuple[int, int, int]] = []

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            self._places.append((document.source, document.line, document.number))
            yield document

    def table(self, sources: Sequence[str]) -> DocumentTable:
        """The places of all that were read."""
        columns = np.array(self._places, np.int64).reshape(-1, 3).T
        return DocumentTable(sources, *columns)


def _same(earlier: DocumentTable | None, now: DocumentTable) -> DocumentTable:
    if earlier is not None and len(earlier) != len(now):
        raise DataError(
            f"The texts had {count(len(earlier), 'document')} for the first model, and have "
            f"{len(now):,} now. Run again when nothing changes them."
        )
    return now


def _remarks(scores: ModelScores, num_documents: int) -> Iterator[str]:
    if scores.num_unfaithful:
        yield (
            f"The tokenizer of {scores.model} doesn't keep {scores.num_unfaithful:,} of "
            f"{count(num_documents, 'document')} byte for byte. What it loses costs it nothing, "
            "and its bits a byte are too low by that."
        )
    if unpredicted := int((scores.num_tokens == 0).sum()):
        yield (
            f"{scores.model} has neither BOS nor EOS to begin a text with, so it predicts nothing "
            f"of {count(unpredicted, 'document')} of one token."
        )
