"""A text -> its tokens, each with the bytes it spells and its place in the text.

In: a `TextTokenizer` and a text. Out: pieces, and what the text costs in tokens. A token's bytes
come from its vocabulary entry, read the way its tokenizer writes bytes: GPT-2's byte alphabet,
SentencePiece's `▁` and `<0xE2>`, WordPiece's `##`. Knows nothing of files, terminals or models, and
must not import torch or transformers.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import Any

from tokenizers import Tokenizer

from gptft.corpus.tokenizer import TextTokenizer
from gptft.errors import ConfigError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_BROKEN = re.compile("[\udc80-\udcff]+")  # what `surrogateescape` makes of bytes it can't decode
_VISIBLE_SPACE = {" ": "·", "\n": "↵", "\t": "→"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a text.

    Attributes:
        id: its number in the vocabulary.
        token: its vocabulary entry, as it stands there.
        bytes: what it spells, as UTF-8; the pieces of a text joined are the text, unless the
            tokenizer drops or changes something (see `is_lossless`).
        text: `bytes` as text; None where they aren't whole characters.
        start: byte offset in the text where what it stands for begins.
        end: byte offset one past that.
    """

    id: int
    token: str
    bytes: bytes
    text: str | None
    start: int
    end: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: without `token`, the bytes in hexadecimal."""
        return {
            "id": self.id,
            "text": self.text,
            "bytes": self.bytes.hex(),
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True)
class TextCost:
    """How much text there is, and what it costs in tokens.

    Attributes:
        num_tokens: tokens, without any special ones around the text.
        num_words: runs of anything but white space.
        num_characters: Unicode code points.
        num_bytes: bytes of UTF-8.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """Counts and rates by name."""
        return asdict(self) | {
            "tokens_per_word": self.tokens_per_word,
            "tokens_per_character": self.tokens_per_character,
            "bytes_per_token": self.bytes_per_token,
        }


@dataclass(frozen=True)
class Spelling:
    """How one tokenizer's vocabulary writes bytes.

    Attributes:
        literals: text by id, of added tokens, which are matched in the text as they stand.
        byte_level: entries are in GPT-2's byte alphabet.
        byte_tokens: `<0xE2>` is the byte E2.
        space: the mark that stands for a space, or "".
        drops_first_space: decoding takes a space off the front, as SentencePiece puts one there.
        prefix: begins an entry that goes on with a word, or "".
        suffix: ends an entry that ends a word, or "".
    """

    literals: Mapping[int, str]
    byte_level: bool
    byte_tokens: bool
    space: str
    drops_first_space: bool
    prefix: str
    suffix: str


def split_pieces(tokenizer: TextTokenizer, text: str) -> list[Piece]:
    """Tokenize `text`, special-token strings read as text, and say what bytes every token spells.

    For a tokenizer that keeps text as it is the pieces' bytes are the text's, cut without gaps. One
    that doesn't (it lowers case, drops white space, puts a space in front) gives pieces whose bytes
    differ from the text's between `start` and `end`; those two then come from the places the
    `tokenizers` library reports, which are whole characters.

    Raises:
        ConfigError: the text holds a lone surrogate, so it has no bytes in UTF-8.
    """
    data = _encode(text)
    backend = tokenizer.backend
    encoding = backend.encode(text, add_special_tokens=False)
    ids = encoding.ids
    spelling = spelling_of(backend)
    # Not `encoding.tokens`: for an unknown token those are the text, not the entry.
    tokens = {i: backend.id_to_token(i) or "" for i in {*ids}}
    spelled_by_id = {i: spell(i, token, spelling) for i, token in tokens.items()}
    spelled = [spelled_by_id[i] for i in ids]
    if spelling.drops_first_space:
        drop_first_space(spelled)
    if b"".join(spelled) == data:
        places = _joined_places(spelled)
    else:
        places = _found_places(spelled, encoding.offsets, text)
    texts = {raw: _whole_text(raw) for raw in {*spelled}}
    return [
        Piece(i, tokens[i], raw, texts[raw], start, end)
        for i, raw, (start, end) in zip(ids, spelled, places, strict=True)
    ]


def is_lossless(pieces: Sequence[Piece], text: str) -> bool:
    """Whether the pieces' bytes, joined, are the bytes of `text`."""
    return b"".join(piece.bytes for piece in pieces) == text.encode()


def text_cost(text: str, *, num_tokens: int) -> TextCost:
    """Count the words, characters and bytes that `num_tokens` tokens pay for.

    >>> text_cost("два слова", num_tokens=3).tokens_per_word
    1.5
    """
    return TextCost(num_tokens, len(text.split()), len(text), len(text.encode()))


def split_characters(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Group pieces so that every group spells whole characters, in order.

    Most groups are one piece. Several pieces are a group where none of them ends on the end of a
    character but the last. A piece whose character never becomes whole is a group of its own.
    """
    pending: list[Piece] = []
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in pieces:
        if piece.text is not None and not pending:
            yield [piece]
            continue
        try:
            decoder.decode(piece.bytes)
        except UnicodeDecodeError:
            yield from ([lone] for lone in pending)
            pending = []
            decoder.reset()
            try:
                decoder.decode(piece.bytes)
            except UnicodeDecodeError:
                decoder.reset()
        pending.append(piece)
        if not decoder.getstate()[0]:
            yield pending
            pending = []
    yield from ([lone] for lone in pending)


@lru_cache(maxsize=2**16)  # a text says few pieces many times
def visible(data: bytes) -> str:
    r"""Show bytes as text in which nothing is hidden.

    A space is ·, a newline ↵, a tab →. What isn't a whole character is its bytes: ⟨d0⟩. A character
    without a shape of its own (a control character, a joiner, a no-break space) is its code point:
    ⟨U+200D⟩. A combining mark that comes first stands on ◌.

    >>> visible(b" \xd0\xb4\xd0")
    '·д⟨d0⟩'
    """
    text = data.decode(errors="surrogateescape")
    shown = "".join(_visible_run(run) for run in _runs(text))
    return f"◌{shown}" if shown and _is_mark(shown[0]) else shown


def hexadecimal(data: bytes) -> str:
    """Bytes as pairs of hexadecimal digits with spaces between them.

    >>> hexadecimal("п".encode())
    'd0 bf'
    """
    return data.hex(" ")


def _runs(text: str) -> Iterator[str]:
    """The characters of `text`, undecoded bytes that follow each other kept together."""
    end = 0
    for match in _BROKEN.finditer(text):
        yield from text[end : match.start()]
        yield match.group()
        end = match.end()
    yield from text[end:]


def _visible_run(run: str) -> str:
    if run in _VISIBLE_SPACE:
        return _VISIBLE_SPACE[run]
    if run.isprintable():
        return run
    if _BROKEN.fullmatch(run):
        return f"⟨{hexadecimal(run.encode(errors='surrogateescape'))}⟩"
    return f"⟨U+{ord(run):04X}⟩"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"Character {error.start + 1:,} of the text is U+{ord(text[error.start]):04X}, half of "
            "a surrogate pair, which no UTF-8 can hold. The text was probably not UTF-8 to begin "
            "with: convert it, or give it with --file."
        ) from None


@cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte alphabet: the byte of every character.

    A byte that is a printable character of Latin-1 stands for itself; the other 68 are, in order,
    the characters from U+0100 on. Source: Radford et al. 2019, section 2.2, and the published code
    of that model.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted({*range(0x100)}.difference(printable))
    own = {chr(byte): byte for byte in printable}
    return own | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


def spelling_of(backend: Tokenizer) -> Spelling:
    """Read off a tokenizer's parts how its vocabulary writes bytes."""
    decoders = _parts(backend.decoder)
    parts = [*_parts(backend.normalizer), *_parts(backend.pre_tokenizer), *decoders]
    kinds = {part["type"] for part in parts}
    spaces = [part["replacement"] for part in parts if part["type"] == "Metaspace"]
    spaces += [
        part["pattern"].get("String", "")
        for part in decoders
        if part["type"] == "Replace" and part["content"] == " "
    ]
    model = backend.model
    return Spelling(
        literals={
            i: added.content
            for i, added in backend.get_added_tokens_decoder().items()
            if not added.special
        },
        byte_level="ByteLevel" in kinds,
        byte_tokens="ByteFallback" in kinds or bool(getattr(model, "byte_fallback", False)),
        space=spaces[0] if spaces else "",
        drops_first_space=any(_drops_space(part) for part in decoders),
        prefix=getattr(model, "continuing_subword_prefix", None) or "",
        suffix=getattr(model, "end_of_word_suffix", None) or "",
    )


def _parts(component: Any) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder as tokenizer.json has it, sequences laid flat."""
    if component is None:
        return []
    waiting = [json.loads(component.__getstate__())]
    flat = []
    while waiting:
        part = waiting.pop(0)
        if part["type"] == "Sequence":
            waiting = [*next(v for v in part.values() if isinstance(v, list)), *waiting]
        else:
            flat.append(part)
    return flat


def spell(token_id: int, token: str, spelling: Spelling) -> bytes:
    """The bytes one vocabulary entry stands for."""
    literal = spelling.literals.get(token_id)
    if literal is not None:
        return literal.encode()
    token = token.removeprefix(spelling.prefix).removesuffix(spelling.suffix)
    if spelling.byte_level:
        alphabet = _byte_alphabet()
        if all(character in alphabet for character in token):
            return bytes(alphabet[character] for character in token)
    if spelling.byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
        return bytes.fromhex(match.group(1))
    return (token.replace(spelling.space, " ") if spelling.space else token).encode()


def _drops_space(decoder: Mapping[str, Any]) -> bool:
    if decoder["type"] == "Metaspace":
        return bool(decoder["prepend_scheme"] != "never")
    strips = decoder["type"] == "Strip" and decoder["content"] == " "
    return strips and int(decoder["start"]) > 0


def drop_first_space(spelled: list[bytes]) -> None:
    """Take the first space off, in place, if the pieces begin with one."""
    first = next((number for number, raw in enumerate(spelled) if raw), None)
    if first is not None:
        spelled[first] = spelled[first].removeprefix(b" ")


def _joined_places(spelled: Sequence[bytes], *, start: int = 0) -> list[tuple[int, int]]:
    """Where pieces lie that follow each other without a gap, from byte `start` on."""
    ends = list(accumulate((len(raw) for raw in spelled), initial=start))
    return list(pairwise(ends))


def _found_places(
    spelled: Sequence[bytes], spans: Sequence[tuple[int, int]], text: str
) -> list[tuple[int, int]]:
    """Where pieces lie in a text that they don't spell as it is.

    Tokens that share characters are placed together: to the byte where they spell the text that is
    there, and by their spans where they don't.

    Args:
        spelled: bytes by token.
        spans: first character and one past the last, by token; they may leave out white space.
        text: the text.
    """
    data = text.encode()
    offsets = [0, *accumulate(len(character.encode()) for character in text)]
    byte_spans = [(offsets[start], offsets[end]) for start, end in spans]
    groups = [*_shared(byte_spans), (len(spans), len(spans))]
    places: list[tuple[int, int]] = []
    cursor = 0
    for (first, last), (following, _) in pairwise(groups):
        raw = b"".join(spelled[first:last])
        start, end = byte_spans[first][0], max(end for _, end in byte_spans[first:last])
        limit = byte_spans[following][0] if following < len(spans) else len(data)
        for at in (cursor, max(cursor, start)):
            if end <= at + len(raw) <= limit and data.startswith(raw, at):
                places += _joined_places(spelled[first:last], start=at)
                break
        else:
            places += [(max(cursor, s), max(cursor, e)) for s, e in byte_spans[first:last]]
        cursor = places[-1][1]
    return places


def _shared(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs of spans that overlap one another, as (first, one past the last)."""
    first, reach = 0, 0
    for number, (start, end) in enumerate(spans):
        if start >= reach and number > first:
            yield first, number
            first = number
        reach = max(reach, end)
    if spans:
        yield first, len(spans)


def _whole_text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
