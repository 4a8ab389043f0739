"""A tokenizer -> for each kind of text that decoding doesn't restore, one example.

The texts are always the same.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gptft.tokenization.tokenizer import TextTokenizer

_NUM_RANDOM = 400  # random texts, of which most mix scripts, spaces and marks
_MAX_RANDOM = 24  # characters of one
_SEED = 0


class Kind(StrEnum):
    """How much is lost with a text: what any text has, a script, or what is rare."""

    PLAIN = "plain"
    SCRIPT = "script"
    RARE = "rare"


# What any text has.
_PLAIN = {
    "lower case": "the quick brown fox",
    "capitals": "The END of All",
    "digits": "42; 3.14159 and 1234567890",
    "punctuation": 'Well, no. (It\'s "so") - yes!?',
    "spaces before punctuation": "well , no . it 's so !",
    "line breaks": "one\ntwo\n\nthree\n",
    "several spaces": "a  b    c",
    "spaces at the end": "two  ",
    "tabs": "a\tb\t\tc",
}
# A few words of each script.
_SCRIPTS = {
    "Cyrillic": "Мороз и солнце; день чудесный! Ёжик",
    "Latin with accents": "Größe, naïve, Łódź, İstanbul",
    "Greek": "Μῆνιν ἄειδε θεά",
    "Hebrew": "בְּרֵאשִׁית",
    "Arabic": "السلام عليكم",
    "Armenian": "Բարեւ",
    "Georgian": "გამარჯობა",
    "Devanagari": "नमस्ते",
    "Bengali": "নমস্কার",
    "Tamil": "வணக்கம்",
    "Telugu": "నమస్కారం",
    "Thai": "สวัสดี",
    "Tibetan": "བཀྲ་ཤིས",
    "Myanmar": "မင်္ဂလာပါ",
    "Khmer": "សួស្តី",
    "Ethiopic": "ሰላም",
    "Hangul": "안녕하세요",
    "Han": "你好世界，東京",
    "Japanese": "こんにちは カタカナ",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ",
    "Gothic": "𐌲𐌿𐍄",
    "emoji": "👩‍👩‍👧‍👦 🇷🇺 👍🏽 ☺️",
    "mathematics": "∀x∈ℝ: ⌈x⌉ ≥ x",
}
# What tokenizers stumble over.
_RARE = {
    "spaces in front": " one",
    "Windows line breaks": "one\r\ntwo\rthree",
    "letters and accents taken apart": "e\u0301 и\u0306 o\u0302\u0323",
    "compatibility forms": "ﬁ ½ ² Ａ ㎏ ℌ 𝐛",
    "special spaces": "a\u00a0b\u2009c\u3000d\u202fe",
    "zero-width characters": "a\u200bb\u200dc\ufeffd\u00ade",
    "writing direction": "a\u202eb\u202cc\u200fd",
    "control characters": "\x00\x01\x08\x0b\x1b[0m\x7f\x85",
    "line and paragraph separators": "a\u2028b\u2029c",
    "the replacement character": "a\ufffdb",
    "no characters": "\ufdd0\ufffe\uffff\U0010ffff",
    "private use": "\ue000\U000f0000",
    "SentencePiece's mark": "a▁b ▁▁c▁",
    "letters of GPT-2's byte alphabet": "ĠaĊb Ð¿ÑĢ",
    "byte tokens": "<0xD0><0x0A>",
    "marks of subwords": "##a @@ b</w>",
    "a mountain of accents": "Z\u0351\u036b\u0343\u036a\u0302\u036b",
    "a long word": "абвгд" * 400,
    "one letter often": "a" * 1000,
    "only white space": " \n\t \n",
    "nothing": "",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """A text that isn't given back.

    Attributes:
        kind: how much is lost with it.
        name: what sort of text it is.
        text: an example, as short as it could be made.
        back: what it is after encoding and decoding.
    """

    kind: Kind
    name: str
    text: str
    back: str

    @property
    def is_space_in_front(self) -> bool:
        """Whether all that is wrong is one space more in front."""
        return self.back == f" {self.text}"


def find_losses(tokenizer: TextTokenizer) -> tuple[list[Loss], int]:
    """Encode and decode texts of all kinds, and compare.

    Returns:
        an example for each sort of text that isn't given back, and how many texts were tried.
    """
    special = {f"the text {t}": f"a {t} b{t}" for t in tokenizer.special_tokens.values()}
    groups = ((Kind.PLAIN, _PLAIN), (Kind.SCRIPT, _SCRIPTS), (Kind.RARE, _RARE | special))
    tried = [(kind, name, text) for kind, texts in groups for name, text in texts.items()]
    losses = [
        Loss(kind, name, *_shortest(tokenizer, text))
        for kind, name, text in tried
        if give_back(tokenizer, text) != text
    ]
    random_texts = list(_random_texts())
    lost = next((text for text in random_texts if give_back(tokenizer, text) != text), None)
    if lost is not None:
        losses.append(Loss(Kind.RARE, "random characters", *_shortest(tokenizer, lost)))
    return losses, len(tried) + len(random_texts)


def give_back(tokenizer: TextTokenizer, text: str) -> str:
    """What a text is after it was encoded, special-token strings as text, and decoded."""
    with tokenizer.explained():
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    with tokenizer.explained("decode what it encoded"):
        return tokenizer.backend.decode(ids, skip_special_tokens=False)


def _shortest(tokenizer: TextTokenizer, text: str) -> tuple[str, str]:
    """A substring that isn't given back, none of whose halves is at fault alone."""
    back = give_back(tokenizer, text)
    if back == f" {text}":
        return text[:20], give_back(tokenizer, text[:20])
    while len(text) > 1:
        half = (len(text) + 1) // 2
        shorter_texts = (text[:half], text[half:], text[1:], text[:-1])
        lost = ((one, give_back(tokenizer, one)) for one in shorter_texts)
        shorter = next((pair for pair in lost if pair[0] != pair[1]), None)
        if shorter is None:
            break
        text, back = shorter
    return text, back


def _random_texts() -> Iterator[str]:
    """Texts of random characters: any code point, ASCII, or one of the texts above."""
    draw = random.Random(_SEED)
    rare = [*_RARE.values()][:16]  # those behind are long and of one letter, or empty
    known = "".join([*_PLAIN.values(), *_SCRIPTS.values(), *rare])
    for _ in range(_NUM_RANDOM):
        length = draw.randint(1, _MAX_RANDOM)
        yield "".join(_random_character(draw, known) for _ in range(length))


def _random_character(draw: random.Random, known: str) -> str:
    if draw.random() < 0.6:
        return draw.choice(known)
    code = draw.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)  # no lone surrogates
