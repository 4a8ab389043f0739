"""Which of the words that a text must hold it holds so far, and how many tokens they still need.

A word counts wherever its tokens stand in a row; words may overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gptft.errors import ConfigError
from gptft.terminal.words import count

# For each word: None once it is there, else how many tokens of each alternative the text ends with.
State = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class RequiredWords:
    """Words a text must hold.

    Attributes:
        words: each as alternatives, of which any one will do.
        fallbacks: for each alternative and each number of its tokens seen, how many of its first
            tokens are also the last of those (Knuth, Morris and Pratt 1977).
    """

    words: tuple[tuple[tuple[int, ...], ...], ...]
    fallbacks: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def start(self) -> State:
        """Of a text that holds none of the words' tokens."""
        return tuple((0,) * len(alternatives) for alternatives in self.words)

    @property
    def num_tokens(self) -> int:
        """Tokens of all words one after the other, the shortest alternative of each."""
        return sum(min(map(len, alternatives)) for alternatives in self.words)

    def after(self, state: State, token: int) -> State:
        """The state one token later."""
        return tuple(
            None if seen is None else self._seen(index, seen, token)
            for index, seen in enumerate(state)
        )

    def needed(self, state: State) -> int:
        """Tokens that complete all words: the one most advanced first, then the rest.

        Appending the right one of `useful(state)` always makes it less, by one or more.
        """
        total = saved = 0
        for alternatives, seen in zip(self.words, state, strict=True):
            if seen is None:
                continue
            shortest = min(map(len, alternatives))
            left = min(len(ids) - n for ids, n in zip(alternatives, seen, strict=True))
            total += shortest
            saved = max(saved, shortest - left)
        return total - saved

    def useful(self, state: State) -> list[int]:
        """The tokens that bring a missing word forward, without doubles."""
        tokens = (
            ids[n]
            for alternatives, seen in zip(self.words, state, strict=True)
            if seen is not None
            for ids, n in zip(alternatives, seen, strict=True)
        )
        return list(dict.fromkeys(tokens))

    def _seen(self, index: int, seen: tuple[int, ...], token: int) -> tuple[int, ...] | None:
        grown = []
        for ids, fallback, n in zip(self.words[index], self.fallbacks[index], seen, strict=True):
            while n and ids[n] != token:
                n = fallback[n]
            n += ids[n] == token
            if n == len(ids):
                return None
            grown.append(n)
        return tuple(grown)


def read_required_words(
    constraints: Sequence[Sequence[Sequence[int]]], *, max_new_tokens: int
) -> RequiredWords:
    """Words from sequences of ids.

    Args:
        constraints: each a list of alternatives, of which any one will do; doubles count once.
        max_new_tokens: that the text may have.

    Raises:
        ConfigError: an alternative has no tokens, or the words need more than `max_new_tokens`.
    """
    alike = dict.fromkeys(tuple(sorted({*map(tuple, word)})) for word in constraints)
    if any(not word or not all(word) for word in alike):
        raise ConfigError("force_words: a word has no tokens. Leave the empty one out.")
    words = RequiredWords(tuple(alike), tuple(tuple(map(_fallback, word)) for word in alike))
    if words.num_tokens > max_new_tokens:
        raise ConfigError(
            f"force_words need {count(words.num_tokens, 'token')}, and there is room for "
            f"{max_new_tokens:,}. Raise max_new_tokens or give fewer words."
        )
    return words


def _fallback(ids: Sequence[int]) -> tuple[int, ...]:
    """For n tokens seen, the most below n that the sequence's first n both begin and end with."""
    table = [0, 0]
    for token in ids[1:-1]:
        n = table[-1]
        while n and ids[n] != token:
            n = table[n]
        table.append(n + (ids[n] == token))
    return tuple(table)
