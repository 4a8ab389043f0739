"""A tokenizer and the bytes of its tokens -> which of the tokens some text is encoded to."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice, product

from tokenizers import Tokenizer, models

from gptft.tokenization.token_bytes import TokenBytes, whole_text

# What a token may stand between: what keeps words apart, letters, digits, marks of other scripts.
_BEFORE = ("", "a", " ", "\n", "1", ".", "-", "(", "\t", "'", "я", "中", "\u0301", "\u200d")
_AFTER = ("", "a", " ", "\n", "1", ".", "я", "中", " a", "\u0301")
_MAX_CANDIDATES = 160  # texts a token is looked for in
_AT_ONCE = 8  # of those texts, until the token is met
_MAX_STARTERS = 24  # words that a token which continues one is put behind
_LATER = range(0x80, 0xC0)  # bytes of a character after its first
_NEVER = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})  # bytes that UTF-8 has no use for


class Reachability(StrEnum):
    """Whether text is ever encoded to a token.

    REACHED: a text was found that gives it. UNREACHABLE: proved that none does. UNKNOWN: none of
    the texts tried gives it, which proves nothing. RESERVED: special, and so never meant to come
    out of text.
    """

    REACHED = "reached"
    UNREACHABLE = "unreachable"
    UNKNOWN = "not reached"
    RESERVED = "special"


def find_reachability(
    token_bytes: TokenBytes, raws: Mapping[int, bytes], *, reserved: Iterable[int] = ()
) -> dict[int, Reachability]:
    """Find out which tokens can come out of a text.

    REACHED is witnessed: the `tokenizers` library gave the token for a text that was tried: the
    token's own text, alone and between others; for a part of a character, characters that have it.

    UNREACHABLE is proved, of BPE only: merges go by rank and never look beyond the two symbols they
    join, so inside any text the characters of a token are merged as they are merged alone. If alone
    they don't end in the token, they never do. (Models with `ignore_merges`, a mark for the end of
    words or for continued ones begin otherwise, and nothing is claimed of them.) The same is said
    of a byte that no UTF-8 has.

    What a pre-tokenizer keeps apart, or a normalizer changes, is found by trying alone: those
    tokens are UNKNOWN, as are all of Unigram, WordPiece and WordLevel that weren't met.

    Args:
        token_bytes: of the tokenizer; special-token strings are read as text.
        raws: bytes by id, of the tokens to look for.
        reserved: ids of special tokens.
    """
    backend = token_bytes.backend
    found = dict.fromkeys(raws, Reachability.UNKNOWN)
    found |= {i: Reachability.RESERVED for i in reserved if i in raws}
    waiting = [i for i, state in found.items() if state is Reachability.UNKNOWN]
    alone = [(i, text) for i in waiting if (text := whole_text(raws[i])) is not None]
    _try(backend, alone, found)
    waiting = [i for i in waiting if found[i] is Reachability.UNKNOWN]
    for i in _never_merged(token_bytes, waiting, raws):
        found[i] = Reachability.UNREACHABLE
    starters = _starters(token_bytes)
    left = [i for i in waiting if found[i] is not Reachability.UNREACHABLE]
    texts = {i: _texts_with(raws[i], starters) for i in left}
    while texts:
        tried = [(i, text) for i, more in texts.items() for text in islice(more, _AT_ONCE)]
        _try(backend, tried, found)
        waiting_still = {i for i, _ in tried if found[i] is Reachability.UNKNOWN}
        texts = {i: more for i, more in texts.items() if i in waiting_still}
    return found


def _try(
    backend: Tokenizer, texts: Sequence[tuple[int, str]], found: dict[int, Reachability]
) -> None:
    """Encode texts, and note the tokens that come out where they are looked for."""
    encodings = backend.encode_batch_fast([text for _, text in texts], add_special_tokens=False)
    for (token_id, _), encoding in zip(texts, encodings, strict=True):
        if found[token_id] is Reachability.UNKNOWN and token_id in encoding.ids:
            found[token_id] = Reachability.REACHED


def _never_merged(
    token_bytes: TokenBytes, ids: Iterable[int], raws: Mapping[int, bytes]
) -> Iterator[int]:
    """The tokens of which it is proved that no text gives them."""
    backend = token_bytes.backend
    model = backend.model
    if not isinstance(model, models.BPE) or token_bytes.prefix or token_bytes.suffix:
        return
    if model.ignore_merges or model.dropout:
        return
    literal = set(backend.get_added_tokens_decoder())
    for i in ids:
        token = backend.id_to_token(i) or ""
        raw = raws[i]
        if i in literal or not token:
            continue
        if token_bytes.byte_fallback and len(raw) == 1 and token.startswith("<0x"):
            is_never = raw[0] in _NEVER
        else:
            is_never = token_bytes.byte_level and not _NEVER.isdisjoint(raw)
            is_never |= [merged.id for merged in model.tokenize(token)] != [i]
        if is_never:
            yield i


def _starters(token_bytes: TokenBytes) -> list[str]:
    """Words that a token which continues a word can be put behind."""
    prefix = token_bytes.prefix
    if not prefix:
        return []
    vocab = token_bytes.backend.get_vocab()
    entries = [entry for entry in vocab if entry.isalnum() and not entry.startswith(prefix)]
    return sorted(entries, key=lambda entry: (len(entry), entry))[:_MAX_STARTERS]


def _texts_with(raw: bytes, starters: Sequence[str]) -> Iterator[str]:
    """Texts whose bytes hold `raw`, the likeliest to give its token first."""
    text = whole_text(raw)
    if text is None:
        texts = _completed(raw)
    else:
        around = sorted(product(_BEFORE, _AFTER), key=lambda pair: len("".join(pair)))
        bare = [text.removeprefix(" ")] if text.startswith(" ") else []  # SentencePiece adds one
        beginnings = (f"{starter}{text}" for starter in starters)
        texts = iter([*bare, *beginnings, *(before + text + after for before, after in around)])
    return islice(texts, _MAX_CANDIDATES)


def _completed(raw: bytes) -> Iterator[str]:
    r"""Texts that hold bytes which aren't whole characters, in an order that is always the same.

    >>> next(_completed(b"\xd0")).encode()[:1]
    b'\xd0'
    """
    num_later = next((n for n, byte in enumerate(raw) if byte not in _LATER), len(raw))
    pairs = list(product(_fronts(min(num_later, 3)), _tails(raw)))
    random.Random(0).shuffle(pairs)
    for front, tail in pairs:
        if (text := whole_text(front + raw + tail)) is not None:
            yield text


def _fronts(num_later: int) -> list[bytes]:
    """Bytes that characters begin with whose last `num_later` bytes are given."""
    if not num_later:
        return [b""]
    two = [bytes([lead]) for lead in range(0xC2, 0xE0)] if num_later == 1 else []
    three = [bytes([lead]) for lead in range(0xE0, 0xF0)]
    four = [bytes([lead]) for lead in range(0xF0, 0xF5)]
    if num_later == 3:
        return four
    if num_later == 2:
        return three + [lead + bytes([at]) for lead in four for at in (0x90, 0x9F, 0x80, 0xA0)]
    three = [lead + bytes([at]) for lead in three for at in (0x80, 0x9F, 0xA0, 0xB8)]
    return two + three + [b"\xf0\x9f\x98", b"\xf0\x90\x80", b"\xf0\xa0\x80", b"\xf3\xa0\x81"]


def _tails(raw: bytes) -> list[bytes]:
    """Bytes that end the character `raw` breaks off in."""
    lead = next((n for n in range(1, min(len(raw), 3) + 1) if raw[-n] >= 0xC0), None)
    if lead is None:
        return [b""]
    first = raw[-lead]
    missing = (2 if first < 0xE0 else 3 if first < 0xF0 else 4) - lead
    if missing <= 0:
        return [b""]
    rest = [bytes(more) for more in product((0x80, 0x95, 0xA5, 0xBF), repeat=missing - 1)]
    return [bytes([byte]) + more for byte in _LATER for more in rest]
