"""A BPE tokenizer and a word -> the merges that make its tokens, each with its rank."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inspection.pre_tokens import PreTokens
from gptft.terminal.text import visible
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer
from gptft.tokenization.tokens import split_tokens

LONGEST_WORD = 1000  # characters; each merge of a longer one would take a screen of its own

_ADDED = "an added token: matched in the text as it stands, nothing is merged"
_IS_ENTRY = "an entry of the vocabulary as it stands: ignore_merges takes it without merging"
_NOTHING = "nothing to merge"


@dataclass(frozen=True, slots=True)
class Symbol(JsonFields):
    """What a merge puts together, or makes.

    Attributes:
        id: its number in the vocabulary.
        token: its vocabulary entry, as it stands there.
        bytes: its text as UTF-8.
        shown: the same, readable, with the marks that say where in a word it stands.
    """

    json_names = ("id", "token", "bytes")
    id: int
    token: str
    bytes: bytes
    shown: str


@dataclass(frozen=True, slots=True)
class MergeStep(JsonFields):
    """One merge.

    Attributes:
        rank: its place in the list of merges, from 0, the one learned first.
        left: the symbol before.
        right: the symbol after.
        at: where in `symbols` the merged one stands.
        symbols: all symbols of the pre-token once it is done.
    """

    rank: int
    left: Symbol
    right: Symbol
    at: int
    symbols: tuple[Symbol, ...]

    def json_fields(self) -> dict[str, Any]:
        """Symbols as a person reads them, the pair as the vocabulary has it, too."""
        return {
            "rank": self.rank,
            "pair": [self.left.shown, self.right.shown],
            "pair_tokens": [self.left.token, self.right.token],
            "at": self.at,
            "symbols": [symbol.shown for symbol in self.symbols],
        }


@dataclass(frozen=True, slots=True)
class PreTokenTrace(JsonFields):
    """A pre-token, a stretch of the text that is merged on its own.

    Attributes:
        text: as the normalizer and the pre-tokenizer hand it to BPE.
        symbols: what it is before the first merge.
        steps: the merges, in order.
        remark: why there are none, or "".
    """

    text: str
    symbols: tuple[Symbol, ...]
    steps: tuple[MergeStep, ...]
    remark: str

    @property
    def tokens(self) -> tuple[Symbol, ...]:
        """What is left when no merge applies any more."""
        return self.steps[-1].symbols if self.steps else self.symbols

    def json_fields(self) -> dict[str, Any]:
        """Symbols as a person reads them; the tokens, and null where there is no remark."""
        return {
            "text": self.text,
            "symbols": [symbol.shown for symbol in self.symbols],
            "steps": self.steps,
            "tokens": self.tokens,
            "remark": self.remark or None,
        }


@dataclass(frozen=True, slots=True)
class MergeTrace(JsonFields):
    """How BPE arrives at the tokens of a text.

    Attributes:
        text: the text.
        num_merges: merges that the tokenizer knows; ranks lie below it.
        pre_tokens: in order.
        own_ids: the ids that the `tokenizers` library gives.
    """

    json_names = ("text", "num_merges", "agrees", "ids", "own_ids", "pre_tokens")

    text: str
    num_merges: int
    pre_tokens: tuple[PreTokenTrace, ...]
    own_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids that the traced merges end in."""
        return tuple(token.id for pre_token in self.pre_tokens for token in pre_token.tokens)

    @property
    def agrees(self) -> bool:
        """Whether the trace ends in the tokenizer's own tokens.

        It doesn't where the model drops merges at random (BPE-dropout), since no two encodings are
        alike then.
        """
        return self.ids == self.own_ids


@dataclass(frozen=True)
class _Bpe:
    """A BPE model as its JSON has it.

    Attributes:
        vocab: id by entry.
        merges: (rank, id of the result) by pair of ids.
        entries: entry by id.
        symbols: symbol by id, filled as they are met.
        token_bytes: how its entries write bytes.
        options: its other settings by name.
    """

    vocab: Mapping[str, int]
    merges: Mapping[tuple[int, int], tuple[int, int]]
    entries: Mapping[int, str]
    symbols: dict[int, Symbol]
    token_bytes: TokenBytes
    options: Mapping[str, Any]


def trace_merges(tokenizer: TextTokenizer, word: str) -> MergeTrace:
    """Trace how BPE arrives at the tokens of `word`, and check it against the library.

    Args:
        tokenizer: one whose model is BPE.
        word: at most 1,000 characters, usually one word; spaces count.

    Raises:
        ConfigError: the tokenizer isn't BPE, or the text is too long or no Unicode text.

    Source: Sennrich et al. 2016 (1508.07909), algorithm 1, applied by rank.
    """
    (trace,) = trace_words(tokenizer, [word])
    return trace


def trace_words(tokenizer: TextTokenizer, words: Iterable[str]) -> Iterator[MergeTrace]:
    """As `trace_merges`, for many words; the merges are read once.

    Raises:
        ConfigError: as `trace_merges`.
    """
    bpe = _read_bpe(tokenizer)
    with tokenizer.explained():
        splitter = PreTokens(tokenizer.backend)
    for word in words:
        if len(word) > LONGEST_WORD:
            raise ConfigError(
                f"The text is {len(word):,} characters long; merges are shown for up to "
                f"{LONGEST_WORD:,}. Give a word or a line of it."
            )
        own_ids = tuple(token.id for token in split_tokens(tokenizer, word))
        with tokenizer.explained():
            pre_tokens = [*splitter.split(word)]
        traces = tuple(
            _trace_pre_token(bpe, text) if added_id is None else _trace_added(bpe, text, added_id)
            for text, added_id in pre_tokens
        )
        yield MergeTrace(word, len(bpe.merges), traces, own_ids)


def _read_bpe(tokenizer: TextTokenizer) -> _Bpe:
    model = json.loads(tokenizer.backend.model.__getstate__())
    kind = model["type"]
    if kind != "BPE":
        how = {
            "Unigram": "picks the likeliest of all ways to cut a word",
            "WordPiece": "takes the longest entry that fits, from left to right",
        }.get(kind, "looks words up")
        raise ConfigError(
            f"The tokenizer of {tokenizer.name} is {kind}, not BPE: it merges nothing, it {how}. "
            "Leave --merges out to see its tokens."
        )
    vocab: dict[str, int] = model["vocab"]
    prefix = len(model["continuing_subword_prefix"] or "")
    merges = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        merges[vocab[left], vocab[right]] = rank, vocab[left + right[prefix:]]
    entries = {i: entry for entry, i in vocab.items()}
    return _Bpe(vocab, merges, entries, {}, TokenBytes.of(tokenizer.backend), model)


def _trace_added(bpe: _Bpe, text: str, token_id: int) -> PreTokenTrace:
    literal = bpe.token_bytes.literals.get(token_id, text)
    symbol = Symbol(token_id, literal, literal.encode(), visible(literal.encode()))
    return PreTokenTrace(text, (symbol,), (), _ADDED)


def _trace_pre_token(bpe: _Bpe, text: str) -> PreTokenTrace:
    if bpe.options.get("ignore_merges") and text in bpe.vocab:
        return PreTokenTrace(text, (_symbol(bpe, bpe.vocab[text]),), (), _IS_ENTRY)
    ids = _initial_ids(bpe, text)
    symbols = tuple(_symbol(bpe, i) for i in ids)
    steps = tuple(_merge(bpe, ids))
    return PreTokenTrace(text, symbols, steps, "" if steps else _NOTHING)


def _initial_ids(bpe: _Bpe, text: str) -> list[int]:
    """A symbol a character: itself, else its bytes, else the unknown token, else none."""
    prefix = bpe.options["continuing_subword_prefix"] or ""
    suffix = bpe.options["end_of_word_suffix"] or ""
    unknown = bpe.vocab.get(bpe.options["unk_token"] or "")
    ids: list[int] = []
    waiting: list[int] = []  # an unknown token, put in its place by the next known character
    for at, character in enumerate(text):
        entry = (prefix if at else "") + character + (suffix if at == len(text) - 1 else "")
        if (known := bpe.vocab.get(entry)) is not None:
            ids += [*waiting, known]
            waiting = []
            continue
        raw = [bpe.vocab.get(f"<0x{byte:02X}>") for byte in entry.encode()]
        if bpe.options["byte_fallback"] and None not in raw:
            ids += [i for i in raw if i is not None]
        elif unknown is not None:
            ids += [] if bpe.options["fuse_unk"] else waiting
            waiting = [unknown]
    return ids + waiting


def _merge(bpe: _Bpe, ids: Sequence[int]) -> Iterator[MergeStep]:
    """Merge the pair of lowest rank, the leftmost of several, until there is none."""
    ids = list(ids)
    while len(ids) > 1:
        pairs = enumerate(pairwise(ids))
        found = [(*merge, at) for at, pair in pairs if (merge := bpe.merges.get(pair))]
        if not found:
            return
        rank, merged, at = min(found)
        left, right = ids[at : at + 2]
        ids[at : at + 2] = [merged]
        symbols = tuple(_symbol(bpe, i) for i in ids)
        yield MergeStep(rank, _symbol(bpe, left), _symbol(bpe, right), at, symbols)


def _symbol(bpe: _Bpe, token_id: int) -> Symbol:
    if token_id not in bpe.symbols:
        entry, token_bytes = bpe.entries[token_id], bpe.token_bytes
        raw = token_bytes.of_entry(entry)  # without its id: it was merged, not matched as added
        before = token_bytes.prefix if entry.startswith(token_bytes.prefix) else ""
        after = token_bytes.suffix if entry.endswith(token_bytes.suffix) else ""
        bpe.symbols[token_id] = Symbol(token_id, entry, raw, before + visible(raw) + after)
    return bpe.symbols[token_id]
