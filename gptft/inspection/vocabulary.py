"""A tokenizer -> what its vocabulary holds: scripts, lengths, tokens no text gives; a search."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import regex

from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inspection.reachability import Reachability, find_reachability
from gptft.text.patterns import compile_pattern
from gptft.text.scripts import script_of
from gptft.text.unicode import text_problem
from gptft.tokenization.token_bytes import TokenBytes, whole_text
from gptft.tokenization.tokenizer import TextTokenizer

OTHER_SCRIPT = "other script"
_NUM_LONGEST = 10
_REGEX_SECONDS = 1.0  # for one token: a pattern that takes longer never ends


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """One token of a vocabulary.

    Attributes:
        id: its number.
        token: the entry, as it stands in the vocabulary.
        text: what it stands for; None where that isn't whole characters.
        bytes: the same as UTF-8.
        script: of its letters, or what it holds instead of letters.
        special: it marks something, and never comes out of text.
        added: it is matched in the text before the model sees it.
    """

    id: int
    token: str
    text: str | None
    bytes: bytes
    script: str
    special: bool
    added: bool


@dataclass(frozen=True)
class VocabularySummary:
    """What a vocabulary holds. Special tokens are counted apart: they aren't in the tables.

    Attributes:
        name: the model's name.
        kind: of the tokenizer's model: BPE, Unigram, WordPiece, WordLevel.
        num_tokens: all of them.
        num_ids: one more than the highest id.
        num_embeddings: ids its model knows, or None where no config.json says so.
        special: the special tokens.
        added: tokens added without being special.
        scripts: tokens by script of their letters, or what they hold instead, most first.
        characters: tokens by length in code points, of those that are whole characters.
        lengths: tokens by length in bytes.
        num_with_space: tokens with a space in front; for a vocabulary that marks the tokens which
            continue a word (WordPiece), those that begin one.
        num_partial: tokens that aren't whole characters alone.
        unreachable: tokens proved to come out of no text; see `find_reachability`.
        unknown: tokens that came out of none of the texts tried, which proves nothing.
        longest: the tokens with most bytes, the longest first.
    """

    name: str
    kind: str
    num_tokens: int
    num_ids: int
    num_embeddings: int | None
    num_with_space: int
    num_partial: int
    scripts: Mapping[str, int]
    characters: Mapping[int, int]
    lengths: Mapping[int, int]
    special: tuple[VocabularyEntry, ...]
    added: tuple[VocabularyEntry, ...]
    unreachable: tuple[VocabularyEntry, ...]
    unknown: tuple[VocabularyEntry, ...]
    longest: tuple[VocabularyEntry, ...]


@dataclass(frozen=True)
class VocabularySearch(JsonFields):
    """Tokens that were looked for.

    Attributes:
        entries: the tokens to show.
        reachability: by id, whether text is ever encoded to them.
        num_found: how many there are in all.
    """

    entries: tuple[VocabularyEntry, ...]
    reachability: Mapping[int, Reachability]
    num_found: int

    def json_fields(self) -> dict[str, Any]:
        """The tokens, each with its reachability, and how many there are in all."""
        tokens = [asdict(entry) | {"reach": self.reachability[entry.id]} for entry in self.entries]
        return {"num_found": self.num_found, "tokens": tokens}


def summarize_vocabulary(tokenizer: TextTokenizer) -> VocabularySummary:
    """Count what a vocabulary holds, and find the tokens that no text gives.

    What is proved of those and what isn't is said in `find_reachability`.

    Raises:
        ModelError: the tokenizer can't encode every text.
    """
    token_bytes = TokenBytes.of(tokenizer.backend)
    entries = _entries(tokenizer, token_bytes)
    ordinary = [entry for entry in entries if not entry.special]
    with tokenizer.explained():
        reachability = find_reachability(token_bytes, {entry.id: entry.bytes for entry in ordinary})
    whole = [entry.text for entry in ordinary if entry.text is not None]
    if prefix := token_bytes.prefix:
        with_space = [e for e in ordinary if not e.token.startswith(prefix)]
    else:
        with_space = [e for e in ordinary if e.bytes.startswith(b" ")]
    return VocabularySummary(
        name=tokenizer.name,
        kind=type(tokenizer.backend.model).__name__,
        num_tokens=len(entries),
        num_ids=tokenizer.vocab_size,
        num_embeddings=tokenizer.num_embeddings,
        special=tuple(entry for entry in entries if entry.special),
        added=tuple(entry for entry in ordinary if entry.added),
        scripts=dict(Counter(entry.script for entry in ordinary).most_common()),
        characters=dict(sorted(Counter(map(len, whole)).items())),
        lengths=dict(sorted(Counter(len(entry.bytes) for entry in ordinary).items())),
        num_with_space=len(with_space),
        num_partial=len(ordinary) - len(whole),
        unreachable=tuple(e for e in ordinary if reachability[e.id] is Reachability.UNREACHABLE),
        unknown=tuple(e for e in ordinary if reachability[e.id] is Reachability.UNKNOWN),
        longest=tuple(sorted(ordinary, key=lambda e: (-len(e.bytes), e.id))[:_NUM_LONGEST]),
    )


def search_vocabulary(
    tokenizer: TextTokenizer,
    *,
    text: str | None = None,
    token_id: int | None = None,
    regex: str | None = None,
    limit: int = 20,
) -> VocabularySearch:
    """Find tokens by their text, or by id.

    Args:
        tokenizer: whose vocabulary.
        text: is in a token's text, a space in front counted (or is the entry as it stands in the
            vocabulary, `Ġthe`); the shortest come first, and so the token that is the text.
        token_id: its id.
        regex: matches in a token's text, where that is whole characters; by id.
        limit: tokens to hand back, >= 1.

    Raises:
        ConfigError: not one of the three is given, there is no such id, or the pattern is none.
        ModelError: the tokenizer can't encode every text.
    """
    if sum(given is not None for given in (text, token_id, regex)) != 1:
        raise ConfigError("Look for one thing at a time: a text, an id or a regular expression.")
    if limit < 1:
        raise ConfigError(f"The limit is {limit}; it must be 1 or more.")
    token_bytes = TokenBytes.of(tokenizer.backend)
    entries = _entries(tokenizer, token_bytes)
    if text is not None:
        found = _with_text(entries, text)
    elif token_id is not None:
        found = [entry for entry in entries if entry.id == token_id]
        if not found:
            raise ConfigError(
                f"The vocabulary of {tokenizer.name} has no token {token_id}: ids go from "
                f"{entries[0].id} to {entries[-1].id:,}."
                if entries
                else f"The vocabulary of {tokenizer.name} is empty."
            )
    else:
        matches = _matcher(regex or "")
        found = [entry for entry in entries if entry.text is not None and matches(entry.text)]
    shown = found[:limit]
    special = [entry.id for entry in shown if entry.special]
    with tokenizer.explained():
        raws = {entry.id: entry.bytes for entry in shown}
        reachability = find_reachability(token_bytes, raws, reserved=special)
    return VocabularySearch(tuple(shown), reachability, len(found))


def _entries(tokenizer: TextTokenizer, token_bytes: TokenBytes) -> list[VocabularyEntry]:
    """The whole vocabulary, by id."""
    backend = tokenizer.backend
    added = backend.get_added_tokens_decoder()
    vocab = sorted((i, token) for token, i in backend.get_vocab(with_added_tokens=True).items())
    entries = []
    for i, token in vocab:
        special = i in added and added[i].special
        raw = token.encode() if special else token_bytes.of_entry(token, i)
        text = whole_text(raw)
        kind = "part of a character" if text is None else kind_of(text)
        entries.append(VocabularyEntry(i, token, text, raw, kind, special, i in added))
    return entries


def kind_of(text: str) -> str:
    """The script of the letters in `text`; without letters, what it holds instead.

    >>> [kind_of(text) for text in (" мир", "東京", "aб", "42", " ", "?!", "😀")]
    ['Cyrillic', 'Han', 'several scripts', 'digits', 'white space', 'punctuation and symbols', \
'emoji']
    """
    found = {script for character in text if (script := _own_script(character))}
    if found:
        return found.pop() if len(found) == 1 else "several scripts"
    if not text.strip():
        return "white space" if text else "nothing"
    kinds = {_kind_of(character) for character in text if not character.isspace()}
    for kind in ("emoji", "digits", "punctuation and symbols"):
        if kind in kinds:
            return kind
    return "control characters"


def _own_script(character: str) -> str | None:
    """The script of a letter or a sign of its own script; None for what all scripts share."""
    script = script_of(character)
    if script in ("Common", "Inherited", "Other"):
        return OTHER_SCRIPT if character.isalpha() else None
    return script


def _kind_of(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("N"):
        return "digits"
    if regex.match(r"\p{Extended_Pictographic}", character):
        return "emoji"
    return "control characters" if category.startswith("C") else "punctuation and symbols"


def _with_text(entries: list[VocabularyEntry], text: str) -> list[VocabularyEntry]:
    if not text:
        raise ConfigError("The text to look for is empty.")
    if problem := text_problem(text):
        raise ConfigError(f"The text to look for is not Unicode: it {problem}.")
    raw = text.encode()
    found = [entry for entry in entries if raw in entry.bytes or entry.token == text]
    return sorted(found, key=lambda e: (len(e.bytes), e.id))


def _matcher(pattern: str) -> Callable[[str], bool]:
    try:
        compiled = compile_pattern(pattern)
    except ValueError as error:
        raise ConfigError(f"{pattern} is not a regular expression: {error}.") from None

    def matches(text: str) -> bool:
        try:
            return compiled.search(text, timeout=_REGEX_SECONDS) is not None
        except (TimeoutError, MemoryError):
            raise ConfigError(
                f"{pattern} takes too long or too much memory: more than {_REGEX_SECONDS:g} s for "
                "one token. It probably repeats what repeats already, like (a+)+."
            ) from None

    return matches
