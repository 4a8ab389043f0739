"""A tokenizer and a text -> its pre-tokens, which the tokenizer's model encodes one by one."""

import re
from collections.abc import Iterator, Mapping
from itertools import repeat

from tokenizers import AddedToken, NormalizedString, PreTokenizedString, Tokenizer

_Segments = list[tuple[NormalizedString, int | None]]


class PreTokens:
    """What cuts texts into pre-tokens for one tokenizer."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        added = {
            i: token
            for i, token in backend.get_added_tokens_decoder().items()
            if token.content and not (token.special and backend.encode_special_tokens)
        }
        self._tables = {
            normalized: _table(backend, added, normalized=normalized)
            for normalized in (False, True)
        }

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The pre-tokens of `text`, in order, and the id of each that is an added token."""
        for raw, added_id in self._cut(NormalizedString(text), normalized=False):
            if added_id is not None:
                yield raw.normalized, added_id
                continue
            if self._backend.normalizer is not None:
                self._backend.normalizer.normalize(raw)
            for segment, segment_id in self._cut(raw, normalized=True):
                if segment_id is not None:
                    yield segment.normalized, segment_id
                else:
                    yield from zip(self._pre_tokenize(text, segment), repeat(None))

    def _pre_tokenize(self, text: str, segment: NormalizedString) -> list[str]:
        """The pre-tokens of a segment, which keeps its place in `text`: the first is special."""
        if self._backend.pre_tokenizer is None:
            return [segment.normalized]
        pre_tokenized = PreTokenizedString(text)
        pre_tokenized.split(lambda _number, _normalized: [segment])
        self._backend.pre_tokenizer.pre_tokenize(pre_tokenized)
        return [pre_token for pre_token, _, _ in pre_tokenized.get_splits() if pre_token]

    def _cut(self, text: NormalizedString, *, normalized: bool) -> _Segments:
        """Cut a text at the added tokens that are matched before, or after, normalising."""
        pattern, tokens = self._tables[normalized]
        if pattern is None:
            return [(text, None)]
        content, end = text.normalized, 0
        spans: list[tuple[int, int, int | None]] = []
        for match in pattern.finditer(content):
            token_id, token = tokens[match.group()]
            start, stop = match.span()
            if token.single_word and _touches_a_word(content, start, stop):
                continue
            if token.lstrip:
                start = max(len(content[:start].rstrip()), end)
            if token.rstrip:
                stop = len(content) - len(content[stop:].lstrip())
            spans += [(end, start, None), (start, stop, token_id)]
            end = stop  # which may lie in the next match: the library counts such text twice, too
        spans.append((end, len(content), None))
        return [(_slice(text, start, stop), i) for start, stop, i in spans if stop > start]


def _slice(text: NormalizedString, start: int, stop: int) -> NormalizedString:
    found = text[start:stop]
    if found is None:
        raise IndexError(f"characters {start} to {stop} of {len(text.normalized)}")
    return found


def _table(
    backend: Tokenizer, added: Mapping[int, AddedToken], *, normalized: bool
) -> tuple[re.Pattern[str] | None, dict[str, tuple[int, AddedToken]]]:
    """A pattern that finds the longest of these tokens, and them by what it finds."""
    tokens: dict[str, tuple[int, AddedToken]] = {}
    for i, token in added.items():
        if token.normalized == normalized:
            content = token.content
            if normalized and backend.normalizer is not None:
                content = backend.normalizer.normalize_str(content)
            tokens[content] = i, token
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None, tokens


def _touches_a_word(text: str, start: int, stop: int) -> bool:
    return any(re.match(r"\w", side) for side in (text[:start][-1:], text[stop : stop + 1]))
