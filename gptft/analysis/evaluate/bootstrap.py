"""Bits and bytes of documents -> intervals of bits a byte, by drawing the documents again."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NUM_RESAMPLES = 1000
_ENDS = (2.5, 97.5)  # per cent: what lies between is 95%


class Interval(NamedTuple):
    """Where 95% of the resampled values lie."""

    low: float
    high: float


def bootstrap(
    bits: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], *, seed: int
) -> tuple[list[Interval | None], list[Interval | None]]:
    """Intervals of bits a byte of M models, and of each one's difference to the first.

    Documents are drawn with replacement, as many as there are, the same ones for every model: what
    makes a document hard for all of them doesn't widen the difference.

    Args:
        bits: by model and document, shape (M, N).
        sizes: bytes by model and document, shape (M, N).
        seed: of the draws, NumPy's PCG64.

    Returns:
        an interval a model, and of its difference, that of the first model None; all None where
        one document or none is there to draw from, or a value isn't finite.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3, the
    percentile interval; the ratio of two sums is drawn as one.
    """
    num_models, num_documents = bits.shape
    nothing: list[Interval | None] = [None] * num_models
    if num_documents < 2:
        return nothing, list(nothing)
    random = np.random.default_rng(seed)
    drawn = np.empty((NUM_RESAMPLES, num_models))
    for row in range(NUM_RESAMPLES):
        picked = random.integers(num_documents, size=num_documents)
        times = np.bincount(picked, minlength=num_documents)
        with np.errstate(all="ignore"):  # a draw of documents without a byte, or infinite bits
            drawn[row] = (bits @ times) / (sizes @ times)
    with np.errstate(all="ignore"):
        differences = drawn - drawn[:, :1]
    return (
        [_interval(drawn[:, at]) for at in range(num_models)],
        [_interval(differences[:, at]) if at else None for at in range(num_models)],
    )


def _interval(values: npt.NDArray[np.float64]) -> Interval | None:
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, _ENDS)
    return Interval(float(low), float(high))
