"""A text -> its tokens, each with its bytes and its place in the text, and what the text costs."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.terminal.text import escaped, visible
from gptft.tokenization.token_bytes import TokenBytes, whole_text
from gptft.tokenization.tokenizer import TextTokenizer

_LATER_BYTES = bytes(range(0x80, 0xC0))  # in UTF-8, all of a character but its first


@dataclass(frozen=True, slots=True)
class Token(JsonFields):
    """One token of a text.

    Attributes:
        id: its number in the vocabulary.
        token: its vocabulary entry, as it stands there.
        bytes: what its entry stands for, as UTF-8; the bytes of a text's tokens joined are the
            text, unless the tokenizer drops or changes something (see `is_lossless`).
        text: `bytes` as text; None where they aren't whole characters.
        start: byte offset in the text where what it stands for begins.
        end: byte offset one past that.
        start_character: offset, in code points, of the character that byte `start` is in.
        end_character: offset one past the last character it has a byte of.
    """

    json_names = ("id", "text", "bytes", "start", "end", "start_character", "end_character")

    id: int
    token: str
    bytes: bytes
    text: str | None
    start: int
    end: int
    start_character: int = 0
    end_character: int = 0

    @property
    def shown(self) -> str:
        """What it spells, nothing hidden; its vocabulary entry where it spells nothing."""
        return visible(self.bytes) or escaped(self.token)


@dataclass(frozen=True)
class TextCost(JsonFields):
    """How much text there is, and what it costs in tokens.

    Attributes:
        num_tokens: tokens, without any special ones around the text.
        num_words: runs of anything but white space.
        num_characters: Unicode code points.
        num_bytes: bytes of UTF-8.
    """

    json_also = (
        "tokens_per_word",
        "tokens_per_character",
        "bytes_per_token",
        "characters_per_word",
        "bytes_per_word",
    )

    num_tokens: int
    num_words: int
    num_characters: int
    num_bytes: int

    @property
    def tokens_per_word(self) -> float | None:
        """None for a text without words."""
        return self.num_tokens / self.num_words if self.num_words else None

    @property
    def tokens_per_character(self) -> float | None:
        """None for an empty text."""
        return self.num_tokens / self.num_characters if self.num_characters else None

    @property
    def bytes_per_token(self) -> float | None:
        """None for a text without tokens."""
        return self.num_bytes / self.num_tokens if self.num_tokens else None

    @property
    def characters_per_word(self) -> float | None:
        """White space counted; None for a text without words."""
        return self.num_characters / self.num_words if self.num_words else None

    @property
    def bytes_per_word(self) -> float | None:
        """White space counted; None for a text without words."""
        return self.num_bytes / self.num_words if self.num_words else None

    @property
    def one_token_each(self) -> dict[str, int]:
        """Tokens of the text, were each word, character or byte one."""
        return {"words": self.num_words, "characters": self.num_characters, "bytes": self.num_bytes}


def split_tokens(tokenizer: TextTokenizer, text: str) -> list[Token]:
    """Tokenize `text`, special-token strings read as text, with the bytes of every token.

    For a tokenizer that keeps text as it is the tokens' bytes are the text's, cut without gaps. One
    that doesn't (it lowers case, drops white space, puts a space in front) gives tokens whose bytes
    differ from the text's between `start` and `end`; those two then come from the places the
    `tokenizers` library reports, which are whole characters.

    Raises:
        ConfigError: the text holds a lone surrogate, so it has no bytes in UTF-8.
        ModelError: the tokenizer can't encode it.
    """
    data = utf8_bytes(text)
    backend = tokenizer.backend
    with tokenizer.explained():
        encoding = backend.encode(text, add_special_tokens=False)
    ids = encoding.ids
    # Not `encoding.tokens`: for an unknown token those are the text, not the entry.
    entries = {i: backend.id_to_token(i) or "" for i in {*ids}}
    raws = TokenBytes.of(backend).of_ids(ids)
    if b"".join(raws) == data:
        places = _joined_places(raws)
    else:
        places = _found_places(raws, encoding.offsets, text)
    texts = {raw: whole_text(raw) for raw in {*raws}}
    # How many characters begin before each byte. One more begins at the end of the text.
    begun = [*accumulate((byte not in _LATER_BYTES for byte in data + b" "), initial=0)]
    return [
        Token(i, entries[i], raw, texts[raw], start, end, begun[start + 1] - 1, begun[end])
        for i, raw, (start, end) in zip(ids, raws, places, strict=True)
    ]


def is_lossless(tokens: Sequence[Token], text: str) -> bool:
    """Whether the tokens' bytes, joined, are the bytes of `text`."""
    return b"".join(token.bytes for token in tokens) == text.encode()


def text_cost(text: str, *, num_tokens: int) -> TextCost:
    """Count the words, characters and bytes that `num_tokens` tokens pay for.

    >>> text_cost("два слова", num_tokens=3).tokens_per_word
    1.5
    """
    return TextCost(num_tokens, len(text.split()), len(text), len(text.encode()))


def group_by_characters(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Group tokens so that every group is whole characters, in order.

    Most groups are one token. Several tokens are a group where none of them ends on the end of a
    character but the last. A token whose character is never completed is a group of its own.
    """
    pending: list[Token] = []
    for token in tokens:
        if token.text is not None and not pending:
            yield [token]
            continue
        if _begun_character([*pending, token]) is None:
            yield from ([lone] for lone in pending)
            pending = []
        pending.append(token)
        if not _begun_character(pending):
            yield pending
            pending = []
    yield from ([lone] for lone in pending)


def _begun_character(tokens: Sequence[Token]) -> bytes | None:
    """The bytes that tokens end with of a character to be completed; None where they aren't UTF-8.

    No bytes where the last character is complete.
    """
    raw = b"".join(token.bytes for token in tokens)
    try:
        return raw[codecs.utf_8_decode(raw, "strict", False)[1] :]
    except UnicodeDecodeError:
        return None


def utf8_bytes(text: str) -> bytes:
    """A text as UTF-8.

    Raises:
        ConfigError: it holds half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"Character {error.start + 1:,} of the text is U+{ord(text[error.start]):04X}, half of "
            "a surrogate pair, which no UTF-8 can hold. The text was probably not UTF-8 to begin "
            "with: convert it, or give it with --file."
        ) from None


def _joined_places(raws: Sequence[bytes], *, start: int = 0) -> list[tuple[int, int]]:
    """Places of tokens that follow each other without a gap, from byte `start` on."""
    ends = list(accumulate((len(raw) for raw in raws), initial=start))
    return list(pairwise(ends))


def _found_places(
    raws: Sequence[bytes], spans: Sequence[tuple[int, int]], text: str
) -> list[tuple[int, int]]:
    """Places of tokens in a text whose bytes aren't those of the tokens.

    Tokens that share characters are placed together: to the byte where their bytes are the
    text's, and by their spans where they aren't.

    Args:
        raws: bytes by token.
        spans: first character and one past the last, by token; they may leave out white space.
        text: the text.
    """
    data = text.encode()
    offsets = [0, *accumulate(len(character.encode()) for character in text)]
    byte_spans = [(offsets[start], offsets[end]) for start, end in spans]
    furthest = [*accumulate((end for _, end in byte_spans), max, initial=0)]  # of those before
    firsts = [n for n, (start, _) in enumerate(byte_spans) if start >= furthest[n]]
    places: list[tuple[int, int]] = []
    cursor = 0
    for first, last in pairwise([*firsts, len(spans)]):  # those that overlap one another
        raw = b"".join(raws[first:last])
        start, end = byte_spans[first][0], max(end for _, end in byte_spans[first:last])
        limit = byte_spans[last][0] if last < len(spans) else len(data)
        for at in (cursor, max(cursor, start)):
            if end <= at + len(raw) <= limit and data.startswith(raw, at):
                places += _joined_places(raws[first:last], start=at)
                break
        else:
            places += [(max(cursor, s), max(cursor, e)) for s, e in byte_spans[first:last]]
        cursor = places[-1][1]
    return places
