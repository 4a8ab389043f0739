"""What was counted of models on documents -> losses, intervals, calibration, and their JSON."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gptft.analysis.evaluate.bootstrap import NUM_RESAMPLES, Interval, bootstrap
from gptft.analysis.evaluate.corpus import place
from gptft.files import JsonFields

Counts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]

NUM_BINS = 10


@dataclass(frozen=True)
class Figures(JsonFields):
    """How well a text was predicted.

    Attributes:
        nats: the sum of -ln p over its tokens.
        num_tokens: tokens that were predicted.
        num_bytes: bytes of UTF-8 they stand for.
        num_characters: characters they stand for, Unicode code points.
    """

    json_names = (
        "num_tokens", "num_bytes", "num_characters", "loss", "perplexity", "bits_per_byte",
        "bits_per_character",
    )  # fmt: skip

    nats: float
    num_tokens: int
    num_bytes: int
    num_characters: int

    @property
    def loss(self) -> float | None:
        """Nats a token; None where none was predicted."""
        return self.nats / self.num_tokens if self.num_tokens else None

    @property
    def perplexity(self) -> float | None:
        """The exponential of `loss`."""
        if self.loss is None:
            return None
        return math.exp(self.loss) if self.loss < 700 else math.inf  # float64 ends there

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between tokenizers; None where what was predicted spells nothing."""
        return self.nats / math.log(2) / self.num_bytes if self.num_bytes else None

    @property
    def bits_per_character(self) -> float | None:
        """The same by the character."""
        return self.nats / math.log(2) / self.num_characters if self.num_characters else None


@dataclass(frozen=True)
class CalibrationBin:
    """The tokens whose likeliest candidate had a probability within one tenth.

    Attributes:
        low: the least probability.
        high: the largest, which is the next bin's but for 1.
        num_tokens: tokens in it.
        confidence: the mean probability of the likeliest candidate; None where there is no token.
        accuracy: the share of tokens that were the likeliest candidate.
    """

    low: float
    high: float
    num_tokens: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Calibration(JsonFields):
    """Whether a model is right as often as it is sure.

    Attributes:
        counts: tokens by bin, shape (10,).
        confidences: the sum of the likeliest candidates' probabilities by bin, shape (10,).
        hits: tokens that were the likeliest candidate by bin, shape (10,).
    """

    json_names = ("expected_error", "accuracy", "bins")

    counts: Counts
    confidences: Sums
    hits: Counts

    @property
    def expected_error(self) -> float | None:
        """The expected calibration error, with bins of equal width.

        Source: Guo et al. 2017, "On calibration of modern neural networks" (1706.04599), eq. 3.
        """
        num_tokens = int(self.counts.sum())
        return (
            float(np.abs(self.hits - self.confidences).sum()) / num_tokens if num_tokens else None
        )

    @property
    def accuracy(self) -> float | None:
        """The share of all tokens that were the likeliest candidate."""
        num_tokens = int(self.counts.sum())
        return int(self.hits.sum()) / num_tokens if num_tokens else None

    @property
    def bins(self) -> list[CalibrationBin]:
        """All ten, the least probable first."""
        columns = zip(
            self.counts.tolist(), self.confidences.tolist(), self.hits.tolist(), strict=True
        )
        return [
            CalibrationBin(
                i / NUM_BINS, (i + 1) / NUM_BINS, n, p / n if n else None, hit / n if n else None
            )
            for i, (n, p, hit) in enumerate(columns)
        ]


@dataclass(frozen=True, eq=False)
class DocumentTable:
    """Where N documents stand.

    Attributes:
        sources: the names of all sources.
        source: each document's, shape (N,), ascending.
        line: see `Document`, shape (N,).
        number: see `Document`, shape (N,).
    """

    sources: Sequence[str]
    source: Counts
    line: Counts
    number: Counts

    def __len__(self) -> int:
        return len(self.source)

    def place(self, at: int) -> str:
        """Where a document begins, in words."""
        source = self.sources[self.source[at]]
        return place(source, line=int(self.line[at]), number=int(self.number[at]))

    def by_source(self) -> Iterator[tuple[str, slice]]:
        """Each source that has documents, and which ones they are."""
        edges = np.searchsorted(self.source, np.arange(len(self.sources) + 1))
        for name, begin, end in zip(self.sources, edges[:-1], edges[1:], strict=True):
            if end > begin:
                yield name, slice(int(begin), int(end))


@dataclass(frozen=True, eq=False)
class ModelScores:
    """What one model made of N documents.

    Attributes:
        model: its name.
        begins_after: the token put before each document; None where the model has none.
        context: the model's, in tokens; None where it has no limit.
        window: tokens that are read at once, and by how many it moves on; None for all of them.
        nats: the sum of -ln p by document, shape (N,).
        num_tokens: predicted tokens by document, shape (N,).
        num_bytes: bytes they stand for, shape (N,).
        num_characters: characters they stand for, shape (N,).
        calibration: over all tokens.
        hardest: the documents with the most bits a byte, the most first, each with the start of its
            text.
        num_unfaithful: documents whose tokens don't spell the very text.
    """

    model: str
    begins_after: str | None
    context: int | None
    window: tuple[int, int] | None
    nats: Sums
    num_tokens: Counts
    num_bytes: Counts
    num_characters: Counts
    calibration: Calibration
    hardest: Sequence[tuple[int, str]]
    num_unfaithful: int

    def figures(self, which: slice = slice(None)) -> Figures:
        """Of some documents together; of all by default."""
        return Figures(
            math.fsum(self.nats[which]),
            int(self.num_tokens[which].sum()),
            int(self.num_bytes[which].sum()),
            int(self.num_characters[which].sum()),
        )

    def of_document(self, at: int) -> Figures:
        """Of one document."""
        return self.figures(slice(at, at + 1))


@dataclass(frozen=True, eq=False)
class Evaluation(JsonFields):
    """Models side by side on the same documents.

    Attributes:
        table: the documents.
        models: what each made of them; the others are compared with the first.
        counts_eos: whether EOS after each document is predicted, too.
        seed: of the resampling.
    """

    table: DocumentTable
    models: Sequence[ModelScores]
    counts_eos: bool
    seed: int

    @cached_property
    def _resampled(self) -> tuple[list[Interval | None], list[Interval | None]]:
        bits = np.stack([one.nats for one in self.models]) / math.log(2)  # (M, N)
        sizes = np.stack([one.num_bytes for one in self.models])
        return bootstrap(bits, sizes, seed=self.seed)

    @property
    def intervals(self) -> list[Interval | None]:
        """The 95% interval of each model's bits a byte; None of a single document."""
        return self._resampled[0]

    @property
    def differences(self) -> list[Interval | None]:
        """The 95% interval of each model's bits a byte less the first one's."""
        return self._resampled[1]

    def difference(self, at: int) -> float | None:
        """A model's bits a byte less the first one's."""
        first, own = (one.figures().bits_per_byte for one in (self.models[0], self.models[at]))
        return None if first is None or own is None else own - first

    def sources(self) -> list[tuple[str, int, list[Figures]]]:
        """By source: its name, its documents, and each model's figures; the hardest first."""
        rows = [
            (name, which.stop - which.start, [one.figures(which) for one in self.models])
            for name, which in self.table.by_source()
        ]
        return sorted(rows, key=lambda row: -(row[2][0].bits_per_byte or 0.0))

    def json_fields(self) -> dict[str, Any]:
        """As JSON has it: a model each, with its sources and documents."""
        return {
            "num_documents": len(self.table),
            "counts_eos": self.counts_eos,
            "seed": self.seed,
            "num_resamples": NUM_RESAMPLES if len(self.table) > 1 else 0,
            "models": [self._model_fields(at) for at in range(len(self.models))],
        }

    def _model_fields(self, at: int) -> dict[str, Any]:
        one = self.models[at]
        window, stride = one.window or (None, None)
        difference = None
        if at:
            difference = {"bits_per_byte": self.difference(at), "interval": self.differences[at]}
        return {
            "model": one.model,
            "begins_after": one.begins_after,
            "context": one.context,
            "window": window,
            "stride": stride,
            **one.figures().json_fields(),
            "interval": self.intervals[at],
            "difference_to_first": difference,
            "calibration": one.calibration,
            "num_unfaithful": one.num_unfaithful,
            "sources": [
                {"source": name, "num_documents": number, **figures[at].json_fields()}
                for name, number, figures in self.sources()
            ],
            "hardest": [{**self._document(one, i), "text": text} for i, text in one.hardest],
            "documents": [self._document(one, i) for i in range(len(self.table))],
        }

    def _document(self, one: ModelScores, at: int) -> Mapping[str, Any]:
        line = int(self.table.line[at])
        return {
            "source": self.table.sources[self.table.source[at]],
            "line": line or None,
            "number": int(self.table.number[at]),
            **one.of_document(at).json_fields(),
        }


@dataclass(frozen=True)
class TaskFigure:
    """One number that a task measures.

    Attributes:
        model: the model's name.
        task: the task's.
        num_fewshot: examples that stand before each question; None where it isn't said.
        metric: such as acc, with a filter of the harness after a comma where there is one.
        value: the number.
        standard_error: of it; None where the harness knows none.
    """

    model: str
    task: str
    num_fewshot: int | None
    metric: str
    value: float
    standard_error: float | None
