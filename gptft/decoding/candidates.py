"""Several texts for one prompt -> which of them to return, as indices, best first."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gptft.errors import ConfigError
from gptft.text.patterns import compile_like_re

_CHRF_ORDER = 6
_CHRF_BETA = 2
# A sign counts unless it stands behind a word, as in 10-5; digits within a word (x2) don't count.
_MATCH_SECONDS = 5.0  # for all matches in a text
_NUMBER = re.compile(r"(?:(?<!\w)[-−])?(?<!\w)\d+(?:[.,]\d+)*")

_Profile = tuple[Counter[str], ...]


@dataclass(frozen=True)
class Vote:
    """What several texts answer, and which of them say what most do.

    Attributes:
        indices: of the texts to return: those of the answer chosen first, then those of the next.
        answer: the one most texts give, casefolded, single-spaced; empty if every text is blank.
        counts: votes by answer, most first; of two with as many, the one that came up first.
        whole_texts: whether no text held an answer, so that whole texts were counted instead.
    """

    indices: tuple[int, ...]
    answer: str
    counts: Mapping[str, int]
    whole_texts: bool


def best_of_n(mean_logprobs: Sequence[float], *, num_return: int) -> list[int]:
    """The candidates the model finds likeliest, token by token.

    Args:
        mean_logprobs: of each candidate, nats a token; NaN counts as worst.
        num_return: how many to return; all where there are fewer.

    Returns:
        indices, best first; of equals the first.

    Source: Adiwardana et al. 2020 (2001.09977), sample-and-rank.

    >>> best_of_n([-2.0, -0.5, -1.0], num_return=2)
    [1, 2]
    """
    scores = [-math.inf if math.isnan(value) else value for value in mean_logprobs]
    return _best_first(scores, num_return=num_return)


def self_consistency(texts: Sequence[str], *, answer_pattern: str | None, num_return: int) -> Vote:
    """The texts whose answer most of them give.

    The answer is the last match of `answer_pattern`, or of its group 1 where it has groups. Without
    a pattern it is the last number, as it is written: digits, with points or commas between them
    and a minus before; where there is none, the whole text. Answers are compared casefolded and
    single-spaced, and an empty one is none. Texts without an answer don't vote; if none has one,
    whole texts are counted, and the result says so.

    Args:
        texts: continuations, without the prompt.
        answer_pattern: a regular expression of Python's `re`.
        num_return: how many to return; all where there are fewer.

    Raises:
        ConfigError: the pattern is no regular expression.

    Source: Wang et al. 2022 (2203.11171), section 2, the unweighted vote.

    >>> vote = self_consistency(["so 7", "so 8", "8!"], answer_pattern=None, num_return=1)
    >>> vote.indices, vote.answer, dict(vote.counts)
    ((1,), '8', {'8': 2, '7': 1})
    """
    find = _last_number if answer_pattern is None else answer_finder(answer_pattern)
    answers = [_plain(find(text)) for text in texts]
    whole_texts = not any(answers)
    if whole_texts:
        answers = [_plain(text) for text in texts]
    voters = [answer for answer in answers if answer]
    counts = dict(Counter(voters).most_common())  # stable: of equals the one that came first
    rank = {answer: place for place, answer in enumerate(counts)}
    order = sorted(range(len(texts)), key=lambda i: rank.get(answers[i], len(rank)))
    answer = next(iter(counts), "")
    return Vote(tuple(order[:num_return]), answer, MappingProxyType(counts), whole_texts)


def minimum_bayes_risk(texts: Sequence[str], *, num_return: int) -> list[int]:
    """The texts most like all others, by their mean chrF with every text as the reference.

    Args:
        texts: candidates, which are references to each other as well.
        num_return: how many to return; all where there are fewer.

    Returns:
        indices, best first; of equals the first.

    Source: Eikema and Aziz 2020 (2005.10283), with chrF for the utility.

    >>> minimum_bayes_risk(["a dog", "the cat sat", "the cat"], num_return=1)
    [1]
    """
    profiles = [_profile(text) for text in texts]
    # fsum: the same utilities in another order must tie
    utilities = [math.fsum(_chrf(one, other) for other in profiles) for one in profiles]
    return _best_first(utilities, num_return=num_return)


def chrf(hypothesis: str, reference: str) -> float:
    """How alike two texts are, by the characters in a row that they share.

    White space is left out. For n from 1 to 6, precision is the share of the hypothesis's n-grams
    found in the reference, each as often as it is there, and recall the reverse; both are averaged
    over n. The score is (1 + 4) * P * R / (4 * P + R): recall counts twice as much as precision. An
    n that one of the texts is too short for is left out of the averages, as sacreBLEU does.

    Returns:
        0, nothing shared, to 1, the same but for white space; two blank texts are the same.

    Source: Popović 2015, chrF: character n-gram F-score for automatic MT evaluation, section 2.

    >>> chrf("ab", "ab"), chrf("ab", "cd"), round(chrf("a", "ab"), 4)
    (1.0, 0.0, 0.5556)
    """
    return _chrf(_profile(hypothesis), _profile(reference))


def _best_first(scores: Sequence[float], *, num_return: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:num_return]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _last_number(text: str) -> str:
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace("−", "-") if numbers else text


def answer_finder(pattern: str) -> Callable[[str], str]:
    """A function from a text to its last match, or that of group 1; empty where there is none.

    Raises:
        ConfigError: the pattern isn't a regular expression; of the function, it takes too long.
    """
    try:
        compiled = compile_like_re(pattern)
    except ValueError as error:
        raise ConfigError(
            f"answer_pattern: {pattern!r} is no regular expression: {error}. Put a "
            "backslash before a sign that is meant as it is."
        ) from None
    group = min(compiled.groups, 1)

    def find(text: str) -> str:
        found = (match[group] or "" for match in compiled.finditer(text, timeout=_MATCH_SECONDS))
        try:
            answers = [answer for answer in found if answer.strip()]
        except (TimeoutError, MemoryError):
            raise ConfigError(
                f"answer_pattern: {pattern!r} takes more than {_MATCH_SECONDS:g} s on a text of "
                f"{len(text):,} characters. Repeat nothing that itself repeats, as (a|aa)+ does."
            ) from None
        return answers[-1] if answers else ""

    return find


def _profile(text: str) -> _Profile:
    """How often each n-gram stands in a text, for n = 1, 2, ..."""
    dense = "".join(text.split())
    return tuple(
        Counter(dense[i : i + n] for i in range(len(dense) - n + 1))
        for n in range(1, _CHRF_ORDER + 1)
    )


def _chrf(hypothesis: _Profile, reference: _Profile) -> float:
    orders = [(one, two) for one, two in zip(hypothesis, reference, strict=True) if one and two]
    if not orders:
        return float(not hypothesis[0] and not reference[0])
    shared = [(one & two).total() for one, two in orders]
    precisions = [s / one.total() for s, (one, _) in zip(shared, orders, strict=True)]
    recalls = [s / two.total() for s, (_, two) in zip(shared, orders, strict=True)]
    precision, recall = math.fsum(precisions) / len(orders), math.fsum(recalls) / len(orders)
    if not precision:
        return 0.0
    weight = _CHRF_BETA**2
    return (1 + weight) * precision * recall / (weight * precision + recall)
