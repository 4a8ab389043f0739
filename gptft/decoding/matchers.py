"""Choices or a pattern -> which tokens may follow a text, so that it can still become one of them.

Tokens count by the bytes they add to a text, so that any way to spell it will do, also one that
cuts a character into bytes.
"""

import codecs
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from math import inf
from typing import Protocol

import regex

from gptft.errors import ConfigError, ModelError
from gptft.text.patterns import compile_pattern
from gptft.tokenization.token_bytes import byte_level_bytes, fallback_byte, whole_text

_MATCH_SECONDS = 5.0  # a pattern that backtracks for longer would never end


@dataclass(frozen=True)
class Vocabulary:
    """What each token adds to a text.

    Attributes:
        ids: the ids of the tokens that add these bytes (UTF-8), several where they are spelled
            alike.
    """

    ids: Mapping[bytes, tuple[int, ...]]

    @cached_property
    def token_bytes(self) -> dict[int, bytes]:
        """The bytes of each id."""
        return {i: data for data, ids in self.ids.items() for i in ids}

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest token."""
        return max(map(len, self.ids), default=0)

    @cached_property
    def partial_tokens(self) -> list[bytes]:
        """The tokens that begin or end within a character."""
        return [data for data in self.ids if whole_text(data) is None]

    @cached_property
    def trie(self) -> tuple[list[str], list[int], list[tuple[int, ...]]]:
        """The tree of all other tokens: nodes, for each the first one that isn't below it, and ids.

        Nodes are the tokens' texts and the prefixes where they branch, parents before children.
        """
        texts = sorted(text for data in self.ids if (text := whole_text(data)))
        branches = {_common(a, b) for a, b in pairwise(texts)}
        nodes = sorted({*texts, *branches} - {""})
        after = [len(nodes)] * len(nodes)
        above: list[int] = []
        for i, node in enumerate(nodes):
            while above and not node.startswith(nodes[above[-1]]):
                after[above.pop()] = i
            above.append(i)
        return nodes, after, [self.ids.get(node.encode(), ()) for node in nodes]


class Matcher(Protocol):
    """What a text may become."""

    def allowed(self, written: bytes, *, vocabulary: Vocabulary) -> tuple[Collection[int], bool]:
        """The ids that may follow what is written (UTF-8), and whether it may end here.

        Raises:
            ConfigError: nothing may follow what isn't complete.
        """

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse a vocabulary that can't write such a text.

        Raises:
            ConfigError: it can't.
        """


def vocabulary_of(
    names: Mapping[int, str], *, decode: Callable[[list[list[int]]], list[str]]
) -> Vocabulary:
    """What each token adds to a text that it follows, leading spaces included.

    Decoders drop the space that a text begins with, so each token is decoded behind another one.
    Decoding can't tell which bytes are no character: those are read from the token's own name, as
    byte-level and byte-fallback tokenizers write them. A token of which neither is certain is left
    out.

    Args:
        names: of the tokens by id, those left out that add nothing to a text.
        decode: ids of texts -> the texts, special tokens left out.

    Raises:
        ModelError: no token is a word or a letter.
    """
    # A byte token won't do: some decoders spoil it where a byte that fits no character follows.
    words = (i for i, name in names.items() if not name.startswith("<0x"))
    anchor = next((i for i in words if decode([[i]])[0].isalpha()), None)
    if anchor is None:
        raise ModelError("The tokenizer has no token that is a letter or a word.")
    before = decode([[anchor]])[0]
    texts = decode([[anchor, i] for i in names])
    ids: dict[bytes, list[int]] = {}
    for (i, name), text in zip(names.items(), texts, strict=True):
        added = text[len(before) :] if text.startswith(before) else ""
        data: bytes | None = added.encode()
        if "\ufffd" in added:
            data = fallback_byte(name) or byte_level_bytes(name)
        if data and (before.encode() + data).decode(errors="replace") == text:
            ids.setdefault(data, []).append(i)
    return Vocabulary({data: tuple(same) for data, same in ids.items()})


def allowed_by_choices(choices: Sequence[str]) -> Matcher:
    """Texts that are one of `choices`, to the letter, written in as few tokens as can be.

    A word is most often learned in few tokens; letter by letter the likeliest first one decides for
    a spelling that no text has.

    Raises:
        ConfigError: there are no choices.

    >>> vocabulary = Vocabulary({b"a": (1,), b"ab": (2,), b"b": (3,), b"c": (4,)})
    >>> matcher = allowed_by_choices(["ab", "abc"])
    >>> sorted(matcher.allowed(b"", vocabulary=vocabulary)[0])
    [2]
    >>> matcher.allowed(b"ab", vocabulary=vocabulary)
    ({4}, True)
    """
    if not choices:
        raise ConfigError("choices: there is none. Give one text or more.")
    return _Choices(tuple(choice.encode() for choice in dict.fromkeys(choices)))


def allowed_by_regex(pattern: str) -> Matcher:
    """Texts that match `pattern` from their first to their last character.

    Source: the idea is Willard and Louf 2023 (2307.09702); in place of their automaton the
    vocabulary's tree is walked with partial matches, as far as they go. A token that leaves more
    than one byte of a character to come is not written.

    Raises:
        ConfigError: the pattern isn't a regular expression.

    >>> vocabulary = Vocabulary({b"1": (1,), b"12": (2,), b"123": (3,), b"x": (4,)})
    >>> sorted(allowed_by_regex("[0-9]{1,2}").allowed(b"", vocabulary=vocabulary)[0])
    [1, 2]
    """
    try:
        compiled = compile_pattern(pattern)
    except ValueError as error:
        raise ConfigError(f"regex: {pattern!r} isn't a regular expression: {error}.") from None
    return _Regex(compiled)


@dataclass(frozen=True)
class _Choices:
    choices: tuple[bytes, ...]

    def allowed(self, written: bytes, *, vocabulary: Vocabulary) -> tuple[set[int], bool]:
        found: set[int] = set()
        start = len(written)
        for choice in self.choices:
            if not choice.startswith(written):
                continue
            fewest = _fewest_tokens(choice, vocabulary)
            for end in range(start + 1, min(len(choice), start + vocabulary.longest) + 1):
                if fewest[end] + 1 == fewest[start]:
                    found.update(vocabulary.ids.get(choice[start:end], ()))
        return found, written in self.choices

    def check(self, vocabulary: Vocabulary) -> None:
        problems = [c.decode() for c in self.choices if _fewest_tokens(c, vocabulary)[0] == inf]
        if problems:
            why = "isn't something that this tokenizer can write"
            raise ConfigError(*(f"choices: {choice!r} {why}." for choice in problems))


@dataclass(frozen=True)
class _Regex:
    pattern: regex.Pattern

    def allowed(self, written: bytes, *, vocabulary: Vocabulary) -> tuple[list[int], bool]:
        split = _split(written)
        if split is None:
            return [], False
        try:
            return self._allowed(*split, vocabulary)
        except TimeoutError:
            raise ConfigError(
                f"regex: {self.pattern.pattern!r} takes more than {_MATCH_SECONDS:g} s on "
                f"{len(split[0]):,} characters. Repeat nothing that itself repeats, as (a+)+ does."
            ) from None

    def check(self, vocabulary: Vocabulary) -> None:
        if not any(self.allowed(b"", vocabulary=vocabulary)):
            raise ConfigError(f"regex: no text matches {self.pattern.pattern!r}.")

    def _allowed(self, text: str, begun: bytes, vocabulary: Vocabulary) -> tuple[list[int], bool]:
        """As `allowed`, after whole characters and the first bytes of one more."""
        found = [] if begun else self._whole_tokens(text, vocabulary)
        for data in vocabulary.partial_tokens:
            split = _split(begun + data)
            if split is None:
                continue
            ends = _one_byte_away(split[1]) if split[1] else ("",)
            if any(self._may_become(text + split[0] + end) for end in ends):
                found += vocabulary.ids[data]
        may_end = not begun and bool(self.pattern.fullmatch(text, timeout=_MATCH_SECONDS))
        if not found and not may_end and self._may_become(text):
            raise ConfigError(
                f"regex: after {text[-40:]!r} no token of this model leads to a match of "
                f"{self.pattern.pattern!r}. Make the pattern wider."
            )
        return found, may_end

    def _may_become(self, text: str) -> bool:
        return bool(self.pattern.fullmatch(text, partial=True, timeout=_MATCH_SECONDS))

    def _whole_tokens(self, text: str, vocabulary: Vocabulary) -> list[int]:
        nodes, after, ids = vocabulary.trie
        found: list[int] = []
        i = 0
        while i < len(nodes):
            if self._may_become(text + nodes[i]):
                found += ids[i]
                i += 1
            else:
                i = after[i]
        return found


def _fewest_tokens(choice: bytes, vocabulary: Vocabulary) -> list[float]:
    """For each position of `choice` and its end, how few tokens can write the rest, inf if none."""
    size = len(choice)
    fewest = [inf] * size + [0.0]
    for start in range(size - 1, -1, -1):
        ends = range(start + 1, min(size, start + vocabulary.longest) + 1)
        counts = (fewest[e] + 1 for e in ends if choice[start:e] in vocabulary.ids)
        fewest[start] = min(counts, default=inf)
    return fewest


def _split(data: bytes) -> tuple[str, bytes] | None:
    """The characters and the first bytes of one more; None where that isn't UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(data), decoder.getstate()[0]
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1024)
def _one_byte_away(begun: bytes) -> tuple[str, ...]:
    """The characters that one more byte makes of `begun`."""
    ends = (whole_text(begun + bytes([last])) for last in range(0x80, 0xC0))
    return tuple(character for character in ends if character is not None)


def _common(first: str, second: str) -> str:
    """The longest prefix of both."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return "".join(character for character, _ in same)
