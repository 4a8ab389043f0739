"""Texts and a tokenizer -> words of a sample with what they cost, and characters by script."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import regex
from tokenizers import Tokenizer

from gptft.panics import no_panic
from gptft.text.scripts import script_of

SAMPLE_CHARACTERS = 100_000  # of a corpus: a few hundredths of a second, 10,000 distinct words
_MOST_CHARACTERS = 4 * SAMPLE_CHARACTERS  # where the size of a corpus isn't known beforehand
_STRETCH = 1000  # characters that are sampled in one place
_WORST_SHARE = 20  # one in so many distinct words is among those split worst

# Scripts that write no spaces between words are left out: a run of letters is a sentence there.
_WORD = regex.compile(
    r"(?V1)[[\p{L}\p{M}]--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+"
)


@dataclass(frozen=True)
class SampledWord:
    """A word of the sample: a run of letters.

    Attributes:
        text: the word.
        count: how often the sample has it.
        tokens_per_word: tokens that have a part of it, on average.
    """

    text: str
    count: int
    tokens_per_word: float


@dataclass
class WordSample:
    """Words met in stretches of a corpus.

    Attributes:
        num_characters: characters of the stretches.
        counts: how often each word occurs.
        tokens: how many tokens each word cost, all times taken together.
    """

    num_characters: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls, texts: Sequence[str], backend: Tokenizer, *, start: int, every: int
    ) -> "WordSample":
        """Sample some texts.

        Args:
            texts: the texts.
            backend: what encodes them.
            start: how many characters of the corpus come before them.
            every: one character in so many is sampled, a stretch of them at a time.
        """
        stretches = [*_stretches(texts, start=start, every=every)]
        sample = cls(num_characters=sum(map(len, stretches)))
        for stretch in stretches:
            with no_panic("A sample of the text can't be encoded"):
                encoding = backend.encode(stretch, add_special_tokens=False)
            words = [match.span() for match in _WORD.finditer(stretch)]
            costs = _costs(np.array(words).reshape(-1, 2), encoding.offsets)
            for (begin, end), cost in zip(words, costs.tolist(), strict=True):
                sample.counts[stretch[begin:end]] += 1
                sample.tokens[stretch[begin:end]] += cost
        return sample

    def add(self, other: "WordSample") -> None:
        """Take in another sample, unless this one is large as it is."""
        if self.num_characters >= _MOST_CHARACTERS:
            return
        self.num_characters += other.num_characters
        self.counts.update(other.counts)
        self.tokens.update(other.tokens)

    @property
    def num_words(self) -> int:
        """Distinct words."""
        return len(self.counts)

    def worst(self, at_most: int) -> tuple[SampledWord, ...]:
        """The most frequent of those that are split most: of one distinct word in twenty."""
        words = [SampledWord(w, count, self.tokens[w] / count) for w, count in self.counts.items()]
        words.sort(key=lambda word: (-word.tokens_per_word, -word.count, word.text))
        worst = words[: max(len(words) // _WORST_SHARE, at_most)]
        split = [word for word in worst if word.tokens_per_word > 1]
        split.sort(key=lambda word: (-word.count, -word.tokens_per_word, word.text))
        return tuple(split[:at_most])


def _stretches(texts: Sequence[str], *, start: int, every: int) -> Iterator[str]:
    """Stretches that begin and end at white space, one for each so many characters of a corpus."""
    step = _STRETCH * every
    for text in texts:
        window = start // step * step - start
        while every > 1 and window < len(text):
            begin, end = max(window, 0), min(max(window + _STRETCH, 0), len(text))
            if begin:
                places = [p for mark in " \n" if (p := text.find(mark, begin, end)) >= 0]
                begin = min(places, default=end)
            if end < len(text):
                end = max(text.rfind(mark, begin + 1, end) for mark in " \n")
            if end > begin:
                yield text[begin:end]
            window += step
        if every == 1:
            yield text
        start += len(text)


def _costs(words: npt.NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """How many tokens have a part of each word.

    Args:
        words: shape (N, 2), first character and one past the last.
        spans: the same of every token, in order.
    """
    places = np.array(spans, dtype=np.int64).reshape(-1, 2)
    # What `searchsorted` needs is ascending: tokens that share a character may step back.
    starts, ends = np.maximum.accumulate(places, axis=0).T
    first = np.searchsorted(ends, words[:, 0], side="right")
    last = np.searchsorted(starts, words[:, 1], side="left")
    return np.asarray(np.maximum(last - first, 0), dtype=np.int64)


def script_counts(characters: npt.NDArray[np.int64]) -> Mapping[str, int]:
    """Characters by Unicode script, the most first.

    Args:
        characters: how often each code point occurs.
    """
    found: Counter[str] = Counter()
    for point in np.flatnonzero(characters).tolist():
        found[script_of(chr(point))] += int(characters[point])
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
