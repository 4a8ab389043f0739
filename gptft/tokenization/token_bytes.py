"""A tokenizer -> the bytes that each entry of its vocabulary stands for, however it writes them."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class TokenBytes:
    """How one tokenizer's vocabulary writes bytes.

    Attributes:
        backend: the tokenizer.
        literals: text by id, of added tokens, which are matched in the text as they stand.
        byte_level: entries are in GPT-2's byte alphabet.
        byte_fallback: `<0xE2>` is the byte E2.
        space: the mark that stands for a space, SentencePiece's `▁`, or "".
        drops_first_space: decoding takes a space off the front, as SentencePiece puts one there.
        prefix: begins an entry that continues a word, WordPiece's `##`, or "".
        suffix: ends an entry that ends a word, or "".
    """

    backend: Tokenizer
    literals: Mapping[int, str]
    byte_level: bool
    byte_fallback: bool
    space: str
    drops_first_space: bool
    prefix: str
    suffix: str

    @classmethod
    def of(cls, backend: Tokenizer) -> "TokenBytes":
        """Read off a tokenizer's components how its vocabulary writes bytes."""
        decoders = _components(backend.decoder)
        others = [*_components(backend.normalizer), *_components(backend.pre_tokenizer)]
        kinds = {component["type"] for component in (*others, *decoders)}
        spaces = [c["replacement"] for c in (*others, *decoders) if c["type"] == "Metaspace"]
        spaces += [
            decoder["pattern"].get("String", "")
            for decoder in decoders
            if decoder["type"] == "Replace" and decoder["content"] == " "
        ]
        added = backend.get_added_tokens_decoder()
        model = backend.model
        return cls(
            backend=backend,
            literals={i: token.content for i, token in added.items() if not token.special},
            byte_level="ByteLevel" in kinds,
            byte_fallback="ByteFallback" in kinds or bool(getattr(model, "byte_fallback", False)),
            space=spaces[0] if spaces else "",
            drops_first_space=any(map(_drops_space, decoders)),
            prefix=getattr(model, "continuing_subword_prefix", None) or "",
            suffix=getattr(model, "end_of_word_suffix", None) or "",
        )

    def of_entry(self, entry: str, token_id: int | None = None) -> bytes:
        """The bytes of one vocabulary entry; without its id it isn't taken for an added token."""
        literal = None if token_id is None else self.literals.get(token_id)
        if literal is not None:
            return literal.encode()
        entry = entry.removeprefix(self.prefix).removesuffix(self.suffix)
        if self.byte_level and (raw := byte_level_bytes(entry)) is not None:
            return raw
        if self.byte_fallback and (raw := fallback_byte(entry)) is not None:
            return raw
        return (entry.replace(self.space, " ") if self.space else entry).encode()

    def of_ids(self, ids: Iterable[int], *, at_start: bool = True) -> list[bytes]:
        """The bytes of each token of a text; ids outside the vocabulary have none.

        Args:
            ids: of the text, in order.
            at_start: the text begins with them, where decoding may drop a space.
        """
        ids = list(ids)
        by_id = {i: self.of_entry(self.backend.id_to_token(i) or "", i) for i in {*ids}}
        found = [by_id[i] for i in ids]
        if at_start and self.drops_first_space:
            drop_first_space(found)
        return found


def whole_text(raw: bytes) -> str | None:
    r"""The text of bytes that are whole characters, else None.

    >>> whole_text(b"\xd0\xb4"), whole_text(b"\xd0")
    ('д', None)
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def drop_first_space(tokens: list[bytes]) -> None:
    """Remove the first space, in place, where the first token that isn't empty begins with one."""
    first = next((number for number, raw in enumerate(tokens) if raw), None)
    if first is not None:
        tokens[first] = tokens[first].removeprefix(b" ")


@cache
def byte_alphabet() -> Mapping[str, int]:
    """GPT-2's byte alphabet: the byte of every character.

    A byte that is a printable character of Latin-1 stands for itself; the other 68 are, in order,
    the characters from U+0100 on. Source: Radford et al. 2019, section 2.2, and the published code
    of that model.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted({*range(0x100)}.difference(printable))
    own = {chr(byte): byte for byte in printable}
    return own | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


def byte_level_bytes(entry: str) -> bytes | None:
    r"""The bytes of a vocabulary entry in GPT-2's byte alphabet; None where it isn't in it.

    >>> byte_level_bytes("ĠÐ"), byte_level_bytes("д")
    (b' \xd0', None)
    """
    alphabet = byte_alphabet()
    if not all(character in alphabet for character in entry):
        return None
    return bytes(alphabet[character] for character in entry)


def fallback_byte(entry: str) -> bytes | None:
    r"""The byte of a byte-fallback entry, `<0xD0>`; None where it is another one.

    >>> fallback_byte("<0xD0>"), fallback_byte("д")
    (b'\xd0', None)
    """
    match = _BYTE_TOKEN.fullmatch(entry)
    return None if match is None else bytes.fromhex(match[1])


def flat_components(component: Any) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder as tokenizer.json has it, sequences laid flat."""
    if not isinstance(component, dict) or "type" not in component:
        return []
    if component["type"] != "Sequence":
        return [component]
    inner = next((value for value in component.values() if isinstance(value, list)), [])
    return [leaf for one in inner for leaf in flat_components(one)]


def _components(component: Any) -> list[dict[str, Any]]:
    return [] if component is None else flat_components(json.loads(component.__getstate__()))


def _drops_space(decoder: Mapping[str, Any]) -> bool:
    if decoder["type"] == "Metaspace":
        return bool(decoder["prepend_scheme"] != "never")
    strips = decoder["type"] == "Strip" and decoder["content"] == " "
    return strips and int(decoder["start"]) > 0
