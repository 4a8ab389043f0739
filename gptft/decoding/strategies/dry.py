"""Don't repeat yourself: a penalty on tokens that continue a repeat."""

import math
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from gptft.config.settings import Setting, Texts, number, whole
from gptft.decoding import define

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

_LONGEST_REPEAT = 50  # tokens beyond the allowed ones; the penalty is out of reach long before
_HIGHEST_PENALTY = 1e30  # leaves a logit finite in float32


def repeat_lengths(
    ids: "npt.ArrayLike", *, breaker_ids: Collection[int], longest: int
) -> dict[int, int]:
    """How long a repeat each token would extend.

    For a token that came up before: the length of the longest end of `ids` that stood right before
    it there. No repeat reaches over a breaker, and a breaker extends none.

    Args:
        ids: the text so far, shape (T,).
        breaker_ids: at which repeats end.
        longest: length beyond which it isn't looked, >= 1.

    Returns:
        the length by token, >= 1; tokens that extend none aren't there.

    >>> repeat_lengths([1, 2, 3, 9, 7, 2, 3], breaker_ids=[], longest=50)
    {9: 2}
    >>> repeat_lengths([1, 2, 3, 9, 7, 2, 3], breaker_ids=[2], longest=50)
    {9: 1}
    """
    import numpy as np

    text = np.asarray(ids)
    if len(text) == 0 or int(text[-1]) in breaker_ids:
        return {}
    # Of the end of the text, by where it stood before.
    lengths = np.zeros(len(text), dtype=np.int64)
    ends = np.flatnonzero(text[:-1] == text[-1])
    for length in range(1, longest + 1):
        lengths[ends] = length
        if length == len(text) or int(text[-1 - length]) in breaker_ids:
            break
        ends = ends[ends >= length]
        ends = ends[text[ends - length] == text[-1 - length]]
        if len(ends) == 0:
            break
    found = np.flatnonzero(lengths)
    found = found[lengths[found].argsort(kind="stable")]  # the longest last: it counts
    tokens = zip(text[found + 1].tolist(), lengths[found].tolist(), strict=True)
    return {token: length for token, length in tokens if token not in breaker_ids}


def repeat_penalty(length: int, *, multiplier: float, base: float, allowed_length: int) -> float:
    """What a repeat of `length` tokens costs: multiplier * base ** (length - allowed_length).

    >>> repeat_penalty(4, multiplier=0.5, base=2.0, allowed_length=2)
    2.0
    >>> repeat_penalty(1, multiplier=0.5, base=2.0, allowed_length=2)
    0.0
    """
    if length < allowed_length or multiplier == 0:
        return 0.0
    exponent = length - allowed_length
    if math.log(multiplier) + exponent * math.log(base) >= math.log(_HIGHEST_PENALTY):
        return _HIGHEST_PENALTY
    return float(multiplier * base**exponent)


def dry_penalty(
    *,
    dry_multiplier: float,
    dry_base: float,
    dry_allowed_length: int,
    dry_penalty_last_n: int,
    breaker_ids: Collection[int],
) -> define.Process:
    """A processor: `repeat_penalty` is taken off the logit of a token that continues a repeat.

    Repeats are looked for in the last `dry_penalty_last_n` ids, prompt included; 0 is all of them.
    Padding isn't told from text here.

    Source: no paper; p-e-w 2024, Don't Repeat Yourself (text-generation-webui 5677), whose rule it
    is as well that breakers aren't penalized.
    """
    longest = dry_allowed_length + _LONGEST_REPEAT
    penalty = partial(
        repeat_penalty, multiplier=dry_multiplier, base=dry_base, allowed_length=dry_allowed_length
    )

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        penalties = logits.new_zeros(logits.shape)  # (B, V)
        last = input_ids[:, -dry_penalty_last_n:].cpu()  # all of them for 0: -0 is 0
        for row, ids in zip(penalties, last, strict=True):
            lengths = repeat_lengths(ids.numpy(), breaker_ids=breaker_ids, longest=longest)
            row[list(lengths)] = row.new_tensor([penalty(length) for length in lengths.values()])
        return logits - penalties

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return dry_penalty(
        **settings.named("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
        breaker_ids={i for text in settings["dry_sequence_breakers"] for i in batch.encode(text)},
    )


_DEPENDENT = ("dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers")

METHOD = define.Method(
    group="repetition",
    settings=(
        Setting("dry_multiplier", number(ge=0), 0.0, "How much continuing a repeat counts against "
                "a token; 0 is off."),
        Setting("dry_base", number(ge=1), 1.75, "How fast that grows with the length of the "
                "repeat."),
        Setting("dry_allowed_length", whole(ge=1), 2, "Tokens that may repeat freely."),
        Setting("dry_penalty_last_n", whole(ge=0), 0, "How far back repeats are looked for, in "
                "tokens; 0 is all the way.", aliases=("penalty_last_n",)),
        Setting("dry_sequence_breakers", Texts, ["\n", ":", '"', "*"], "A repeat ends at these."),
    ),
    processors=(
        define.Processor("dry_multiplier", define.PENALTY + 40, _build, _DEPENDENT,
                         sees_padding=True),
    ),
    strategies=(
        define.sampling(
            "dry",
            "Draws each token, those that would continue a repeat made less likely the longer it "
            "is.",
            "No paper: p-e-w 2024, Don't Repeat Yourself (text-generation-webui 5677).",
            is_asked=False,
            dry_multiplier=0.8,
        ),
    ),
)  # fmt: skip
