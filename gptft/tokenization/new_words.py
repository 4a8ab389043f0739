"""A tokenizer and a corpus -> the words that would save most tokens, were each one token."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import regex
from tokenizers import Tokenizer

from gptft.documents.scan import Progress
from gptft.panics import no_panic
from gptft.tokenization.evaluation import SplitCorpus
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer

_MAX_WORDS = 1_000_000  # distinct words that are counted; later ones are skipped
_MIN_LETTERS = 2
_CANDIDATES = 4  # times as many as wanted are weighed against what they break
_ENCODING = "The words can't be encoded"
_ROUNDS = 5  # of leaving out words that a longer one takes the occurrences of
_ENCODED_AT_ONCE = 10_000
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_WORD_WITH_SPACE = regex.compile(r" ?[\p{L}\p{M}]+")


def learn_words(
    tokenizer: TextTokenizer,
    corpus: SplitCorpus,
    *,
    num: int,
    can_be_added: Callable[[str], bool],
    progress: Progress | None = None,
) -> list[str]:
    """Find the words of a corpus whose addition saves most tokens.

    A word is a run of letters, at least two, with the space before it where the tokenizer's own
    tokens have one. What a new token saves on the word itself it may lose on longer words that it
    is a part of, since it is cut out of those, too; the words are ranked by the balance, and those
    that have little left beside a longer one are replaced.

    Args:
        tokenizer: what the words cost tokens in.
        corpus: its training passages are learned from. Of very many distinct words the first
            million is counted.
        num: the most words wanted.
        can_be_added: whether the tokenizer takes a word as a new token.
        progress: told ("learning", bytes done, bytes in all).
    """
    token_bytes = TokenBytes.of(tokenizer.backend)
    with_space = token_bytes.byte_level or bool(token_bytes.space)
    pattern = _WORD_WITH_SPACE if with_space else _WORD
    counts: Counter[str] = Counter()
    for passage in corpus.training("learning", progress):
        found = pattern.findall(passage)
        if len(counts) >= _MAX_WORDS:
            found = [word for word in found if word in counts]
        counts.update(found)
    costs = _costs(counts, tokenizer.backend)
    most = {
        word: count * (costs[word] - 1)
        for word, count in counts.items()
        if count > 1 and len(word.strip()) >= _MIN_LETTERS and word.startswith(" ") == with_space
    }
    ranked = sorted((word for word in most if most[word] > 0), key=lambda w: (-most[w], w))
    candidates = [*islice(filter(can_be_added, ranked), _CANDIDATES * num)]
    if not candidates:
        return []
    found_in = _occurrences(candidates, counts, anywhere=not with_space)
    balance = _balances(found_in, counts, costs, tokenizer.backend)
    candidates = sorted(
        (word for word in candidates if balance[word] > 0), key=lambda w: (-balance[w], w)
    )
    for _ in range(_ROUNDS):
        chosen = candidates[:num]
        longest = _longest(_occurrences(chosen, counts, anywhere=not with_space))
        own = _balances(longest, counts, costs, tokenizer.backend)
        enough = max(1, balance[candidates[num]] if num < len(candidates) else 1)
        weak = {word for word in chosen if own[word] < enough}
        if not weak:
            break
        candidates = [word for word in candidates if word not in weak]
    return candidates[:num]


def _balances(
    occurrences: Iterable[tuple[str, int, int]],
    counts: Mapping[str, int],
    costs: Mapping[str, int],
    backend: Tokenizer,
) -> Mapping[str, int]:
    """Tokens that each new token saves on all words that it is cut out of.

    Args:
        occurrences: words, and where in them the new token begins and ends.
        counts: how often each word occurs.
        costs: what each word costs as it is.
        backend: what the rest of a word is encoded with.
    """
    broken = list(occurrences)
    rests = {word[:start] for word, start, _ in broken} | {word[end:] for word, _, end in broken}
    rest_costs = _costs(rests - {""}, backend)
    rest_costs[""] = 0
    balance: dict[str, int] = defaultdict(int)
    for word, start, end in broken:
        now = rest_costs[word[:start]] + 1 + rest_costs[word[end:]]
        balance[word[start:end]] += counts[word] * (costs[word] - now)
    return balance


def _longest(occurrences: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """Of the tokens that begin in one place the longest, which is the one that is found there."""
    ends = {(word, start): end for word, start, end in occurrences}  # the longest comes last
    return ((word, start, end) for (word, start), end in ends.items())


def _occurrences(
    candidates: Iterable[str], words: Iterable[str], *, anywhere: bool
) -> Iterator[tuple[str, int, int]]:
    """Words that have a candidate in them, with where it begins and ends."""
    wanted = {*candidates}
    lengths = sorted({len(word) for word in wanted})
    for word in words:
        for start in range(len(word) if anywhere else 1):
            for length in lengths:
                if start + length > len(word):
                    break
                if word[start : start + length] in wanted:
                    yield word, start, start + length


def _costs(words: Iterable[str], backend: Tokenizer) -> dict[str, int]:
    """How many tokens each word costs; one with a space before it, after another word."""
    with no_panic(_ENCODING):
        before = len(backend.encode("a", add_special_tokens=False))
    waiting, costs = iter(words), {}
    while some := [*islice(waiting, _ENCODED_AT_ONCE)]:
        texts = [f"a{word}" if word.startswith(" ") else word for word in some]
        with no_panic(_ENCODING):
            encoded = backend.encode_batch_fast(texts, add_special_tokens=False)
        for word, encoding in zip(some, encoded, strict=True):
            costs[word] = len(encoding) - (before if word.startswith(" ") else 0)
    return costs
