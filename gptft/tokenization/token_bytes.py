"""A tokenizer -> how its vocabulary writes bytes, and what bytes an entry spells.

In: a tokenizer of the `tokenizers` library and vocabulary entries. Out: bytes. An entry is read as
its tokenizer writes it: in GPT-2's byte alphabet, with SentencePiece's `▁` and `<0xE2>`, with
WordPiece's `##`. Must not import torch or transformers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


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


def drop_first_space(spelled: list[bytes]) -> None:
    """Take the first space off, in place, if the pieces begin with one."""
    first = next((number for number, raw in enumerate(spelled) if raw), None)
    if first is not None:
        spelled[first] = spelled[first].removeprefix(b" ")


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


def _drops_space(decoder: Mapping[str, Any]) -> bool:
    if decoder["type"] == "Metaspace":
        return bool(decoder["prepend_scheme"] != "never")
    strips = decoder["type"] == "Strip" and decoder["content"] == " "
    return strips and int(decoder["start"]) > 0
