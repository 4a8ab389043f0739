"""A tokenizer -> what its vocabulary holds: scripts, lengths, tokens no text gives; and a search.

In: a `TextTokenizer`. Out: a frozen `VocabularySummary` or `VocabularySearch`, as JSON or for a
terminal. Must not import torch or transformers, and rich only to draw.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import regex

from gptft.errors import ConfigError
from gptft.inspection.reachability import Reachability, find_reachability
from gptft.terminal.draw import Table, stacked
from gptft.terminal.text import visible
from gptft.terminal.words import count, percent
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from rich.console import RenderableType

SEVERAL_SCRIPTS = "several scripts"
OTHER_SCRIPT = "other script"
PART_OF_A_CHARACTER = "part of a character"
_NUM_LONGEST = 10
_UNITS = ("", "characters", "bytes")
_LONG = 17  # from this length on tokens are counted together, for a person
_MAX_SHOWN = 20  # tokens of a kind that a terminal is shown; JSON has all
_REGEX_SECONDS = 1.0  # for one token: a pattern that takes longer never ends
# Unicode's names of the scripts in which tokens are found; the rest are OTHER_SCRIPT.
_SCRIPTS = """
    Latin Cyrillic Greek Armenian Georgian Hebrew Arabic Syriac Thaana Nko Devanagari Bengali
    Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar
    Khmer Ethiopic Cherokee Canadian_Aboriginal Ogham Runic Mongolian Hiragana Katakana Bopomofo
    Han Hangul Yi Braille Coptic Gothic Glagolitic Tifinagh Javanese Balinese Sundanese Tagalog
    Buginese Vai Bamum Lisu Limbu Lepcha Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Meetei_Mayek
    Ol_Chiki Saurashtra Cham Kayah_Li Samaritan Mandaic Adlam Cuneiform Egyptian_Hieroglyphs
    Linear_A Linear_B Phoenician Old_Italic Old_Persian Old_Turkic Ugaritic Avestan Brahmi
    Kharoshthi Deseret Shavian Osmanya Tangut
"""


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """One token of a vocabulary.

    Attributes:
        id: its number.
        token: the entry, as it stands in the vocabulary.
        bytes: what it spells, as UTF-8.
        text: the same as text; None where it isn't whole characters.
        script: of its letters, or what it holds instead of letters.
        is_special: marks something, and never comes out of text.
        is_added: matched in the text before the model sees it.
    """

    id: int
    token: str
    bytes: bytes
    text: str | None
    script: str
    is_special: bool
    is_added: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the bytes in hexadecimal."""
        return {
            "id": self.id,
            "token": self.token,
            "text": self.text,
            "bytes": self.bytes.hex(),
            "script": self.script,
            "special": self.is_special,
            "added": self.is_added,
        }


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
        num_with_space: tokens with a space in front; for a vocabulary that marks the pieces that go
            on with a word (WordPiece), those that begin one.
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
    special: tuple[VocabularyEntry, ...]
    added: tuple[VocabularyEntry, ...]
    scripts: Mapping[str, int]
    characters: Mapping[int, int]
    lengths: Mapping[int, int]
    num_with_space: int
    num_partial: int
    unreachable: tuple[VocabularyEntry, ...]
    unknown: tuple[VocabularyEntry, ...]
    longest: tuple[VocabularyEntry, ...]

    def to_dict(self) -> dict[str, Any]:
        """Counts by name, tokens in lists."""
        lists = ("special", "added", "unreachable", "unknown", "longest")
        return {
            "name": self.name,
            "kind": self.kind,
            "num_tokens": self.num_tokens,
            "num_ids": self.num_ids,
            "num_embeddings": self.num_embeddings,
            "num_with_space": self.num_with_space,
            "num_partial": self.num_partial,
            "scripts": dict(self.scripts),
            "characters": {str(length): count for length, count in self.characters.items()},
            "lengths": {str(length): count for length, count in self.lengths.items()},
        } | {name: [entry.to_dict() for entry in getattr(self, name)] for name in lists}

    def render(self) -> "RenderableType":
        """For `console.print`: columns on a terminal, lines with tabs off one."""
        return stacked(*_summary_tables(self))


@dataclass(frozen=True)
class VocabularySearch:
    """Tokens that were looked for.

    Attributes:
        entries: the tokens to show.
        reach: by id, whether text is ever encoded to them.
        num_found: how many there are in all.
    """

    entries: tuple[VocabularyEntry, ...]
    reach: Mapping[int, Reachability]
    num_found: int

    def to_dict(self) -> dict[str, Any]:
        """The tokens, each with its reach, and how many more there are."""
        tokens = [entry.to_dict() | {"reach": self.reach[entry.id]} for entry in self.entries]
        return {"num_found": self.num_found, "tokens": tokens}

    def render(self) -> "RenderableType":
        """For `console.print`: columns on a terminal, lines with tabs off one."""
        rows = [
            (str(entry.id), _shown(entry), entry.script, self.reach[entry.id].value)
            for entry in self.entries
        ]
        left = self.num_found - len(rows)
        title = count(self.num_found, "token") + (f", {left:,} not shown" if left else "")
        return Table(rows, "rlll", title)


def summarize_vocabulary(tokenizer: TextTokenizer) -> VocabularySummary:
    """Count what a vocabulary holds, and find the tokens that no text gives.

    What is proved of those and what isn't is said in `find_reachability`.
    """
    token_bytes = TokenBytes.of(tokenizer.backend)
    entries = _entries(tokenizer, token_bytes)
    ordinary = [entry for entry in entries if not entry.is_special]
    reach = find_reachability(token_bytes, {entry.id: entry.bytes for entry in ordinary})
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
        special=tuple(entry for entry in entries if entry.is_special),
        added=tuple(entry for entry in ordinary if entry.is_added),
        scripts=dict(Counter(entry.script for entry in ordinary).most_common()),
        characters=_by_length(Counter(map(len, whole))),
        lengths=_by_length(Counter(len(entry.bytes) for entry in ordinary)),
        num_with_space=len(with_space),
        num_partial=len(ordinary) - len(whole),
        unreachable=tuple(e for e in ordinary if reach[e.id] is Reachability.UNREACHABLE),
        unknown=tuple(e for e in ordinary if reach[e.id] is Reachability.UNKNOWN),
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
    """Find tokens by what they spell, or by id.

    Args:
        tokenizer: whose vocabulary.
        text: is in what a token spells, a space in front counted (or is the entry as it stands in
            the vocabulary, `Ġthe`); the shortest come first, and so the token that is the text.
        token_id: its id.
        regex: matches in what a token spells, where that is whole characters; by id.
        limit: tokens to hand back, >= 1.

    Raises:
        ConfigError: not one of the three is given, there is no such id, or the pattern is none.
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
    reach = find_reachability(
        token_bytes,
        {entry.id: entry.bytes for entry in shown},
        reserved=[entry.id for entry in shown if entry.is_special],
    )
    return VocabularySearch(tuple(shown), reach, len(found))


def _entries(tokenizer: TextTokenizer, token_bytes: TokenBytes) -> list[VocabularyEntry]:
    """The whole vocabulary, by id."""
    backend = tokenizer.backend
    added = backend.get_added_tokens_decoder()
    vocab = sorted((i, token) for token, i in backend.get_vocab(with_added_tokens=True).items())
    entries = []
    for i, token in vocab:
        is_added, is_special = i in added, i in added and added[i].special
        raw = token.encode() if is_special else token_bytes.of_entry(token, i)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = None
        script = PART_OF_A_CHARACTER if text is None else script_of(text)
        entries.append(VocabularyEntry(i, token, raw, text, script, is_special, is_added))
    return entries


def script_of(text: str) -> str:
    """The script of the letters in `text`; without letters, what it holds instead.

    Scripts are Unicode's own (Standard Annex 24), by its names for them.

    >>> [script_of(text) for text in (" мир", "東京", "aб", "42", " ", "?!", "😀")]
    ['Cyrillic', 'Han', 'several scripts', 'digits', 'white space', 'punctuation and symbols', \
'emoji']
    """
    found = {script for character in text if (script := _script(character))}
    if found:
        return found.pop() if len(found) == 1 else SEVERAL_SCRIPTS
    if not text.strip():
        return "white space" if text else "nothing"
    kinds = {_kind_of(character) for character in text if not character.isspace()}
    for kind in ("emoji", "digits", "punctuation and symbols"):
        if kind in kinds:
            return kind
    return "control characters"


def _kind_of(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("N"):
        return "digits"
    if regex.match(r"\p{Extended_Pictographic}", character):
        return "emoji"
    return "control characters" if category.startswith("C") else "punctuation and symbols"


@cache
def _script(character: str) -> str | None:
    """The script of a letter or a sign of its own script; None for what all scripts share."""
    match = _script_pattern().match(character)
    if match is None:
        return OTHER_SCRIPT if character.isalpha() else None
    return str(match.lastgroup).replace("_", " ")


@cache
def _script_pattern() -> Any:
    names = _SCRIPTS.split()
    return regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in names))


def _by_length(counts: Mapping[int, int]) -> dict[int, int]:
    return dict(sorted(counts.items()))


def _with_text(entries: list[VocabularyEntry], text: str) -> list[VocabularyEntry]:
    if not text:
        raise ConfigError("The text to look for is empty.")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "The text to look for is not Unicode: half of a surrogate pair."
        ) from None
    found = [entry for entry in entries if raw in entry.bytes or entry.token == text]
    return sorted(found, key=lambda e: (len(e.bytes), e.id))


def _matcher(pattern: str) -> Callable[[str], bool]:
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ConfigError(f"{pattern} is not a regular expression: {error}.") from None

    def matches(text: str) -> bool:
        try:
            return compiled.search(text, timeout=_REGEX_SECONDS) is not None
        except TimeoutError:
            raise ConfigError(
                f"{pattern} takes too long: more than {_REGEX_SECONDS:g} s for one token. "
                "It probably repeats what repeats already, like (a+)+."
            ) from None

    return matches


def _shown(entry: VocabularyEntry) -> str:
    return visible(entry.bytes) or visible(entry.token.encode())


def _summary_tables(summary: VocabularySummary) -> list[Table]:
    ordinary = summary.num_tokens - len(summary.special)
    share = _share(ordinary)
    known, columns = summary.num_embeddings, (summary.characters, summary.lengths)
    facts = [
        ("tokens", f"{summary.num_tokens:,}", summary.kind),
        ("ids", f"{summary.num_ids:,}", "" if known is None else f"the model knows {known:,}"),
        (
            "special",
            f"{len(summary.special):,}",
            " ".join(map(_shown, summary.special[:_MAX_SHOWN])),
        ),
        ("added", f"{len(summary.added):,}", " ".join(map(_shown, summary.added[:_MAX_SHOWN]))),
        ("space in front", f"{summary.num_with_space:,}", share(summary.num_with_space)),
        ("not whole alone", f"{summary.num_partial:,}", share(summary.num_partial)),
        ("unreachable", f"{len(summary.unreachable):,}", "proved: no text gives them"),
        ("not reached", f"{len(summary.unknown):,}", "by the texts tried: not proved"),
    ]
    counts = [(str(n), *(f"{c.get(n, 0):,}" for c in columns)) for n in range(1, _LONG)]
    longer = [f"{sum(c[n] for n in c if n >= _LONG):,}" for c in columns]
    scripts = [(name, f"{count:,}", share(count)) for name, count in summary.scripts.items()]
    return [
        Table(facts, "lrl", summary.name),
        Table(scripts, "lrr", "By script"),
        Table([*counts, (f"≥ {_LONG}", *longer)], "rrr", "By length in", _UNITS),
        *_token_rows("Longest", summary.longest),
        *_token_rows("Unreachable", summary.unreachable),
        *_token_rows("Not reached", summary.unknown),
    ]


def _share(of: int) -> Callable[[int], str]:
    return lambda number: percent(number / of) if of else ""


def _token_rows(title: str, entries: tuple[VocabularyEntry, ...]) -> list[Table]:
    if not entries:
        return []
    rows = [(str(e.id), _shown(e), f"{len(e.bytes):,} bytes") for e in entries[:_MAX_SHOWN]]
    left = len(entries) - len(rows)
    return [Table(rows, "rll", title + (f", {left:,} more not shown" if left else ""))]
