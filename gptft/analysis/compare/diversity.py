"""A text as token ids or words -> how varied and how repetitive it is, as shares from 0 to 1."""

from collections.abc import Hashable, Iterable

from gptft.errors import ConfigError


def distinct_n(tokens: Iterable[Hashable], *, n: int) -> float | None:
    """Different n-grams by all n-grams of a text: 1 says that none comes twice.

    It falls with length: compare texts of similar lengths.

    Args:
        tokens: ids or words, in order.
        n: tokens in a row, 1 or more.

    Returns:
        above 0 to 1; None where the text has fewer than n tokens.

    Raises:
        ConfigError: n is below 1.

    Source: Li et al. 2016 (1510.03055), distinct-1 and distinct-2. They divide by tokens; by
    n-grams, as is usual since, a text without repeats has 1 whatever n.

    >>> distinct_n("a b a b".split(), n=2)  # ab, ba, ab
    0.6666666666666666
    """
    if n < 1:
        raise ConfigError(f"n is {n}, and n-grams have 1 token or more.")
    ids = list(tokens)
    ngrams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def seq_rep_n(tokens: Iterable[Hashable], *, n: int = 4) -> float | None:
    """The share of n-grams that stood in the text before: 1 - different n-grams / all n-grams.

    Args:
        tokens: ids or words of one continuation, in order.
        n: tokens in a row, 1 or more.

    Returns:
        0, no repeats, to below 1; None where the text has fewer than n tokens.

    Raises:
        ConfigError: n is below 1.

    Source: Welleck et al. 2020 (1908.04319), seq-rep-n, for which they take n = 4.

    >>> seq_rep_n("a b a b".split(), n=2), seq_rep_n("a b c".split())
    (0.33333333333333337, None)
    """
    distinct = distinct_n(tokens, n=n)
    return None if distinct is None else 1 - distinct
