"""Tokens that a page shows -> a box for each, what tells those that look alike apart, odd signs."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from gptft.report.values import visible

if TYPE_CHECKING:
    from gptft.analysis.explain.values import NamedToken

Sign = Literal["sign_bytes", "sign_code", "sign_id", "sign_tab"]

# What is drawn alike in most fonts. Source: Unicode UTS 39, confusables.txt, those of Cyrillic,
# Greek and punctuation that a text of Russian or English may have.
_ALIKE = str.maketrans(
    dict(zip("АВЕЅІЈКМНОРСТУХаеорсухіјѕԁԛԝ", "ABESIJKMHOPCTYXaeopcyxijsdqw", strict=True))
    | dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοϲ", "ABEZHIKMNOPTYXoc", strict=True))
    | dict.fromkeys("‐‑‒–—―−﹣－⁃", "-")
    | dict.fromkeys("“”‟″＂ʺ", '"')
    | dict.fromkeys("‘’‛′ʼʹ`´＇", "'")
    | dict.fromkeys("•∙⋅‧・ꞏ", "·")
    | {"‚": ",", "„": ",,", "∶": ":", "⁄": "/", "∕": "/", "З": "3", "‹": "<", "›": ">"}
    | {chr(code): None for code in range(0xFE00, 0xFE10)}  # variation selectors
)
_MOST_CODES = 4
_SIGNS: tuple[tuple[Sign, re.Pattern[str]], ...] = (
    ("sign_bytes", re.compile(r"⟨[0-9a-f]{2}(?: [0-9a-f]{2})*⟩")),
    ("sign_code", re.compile(r"⟨U\+[0-9A-F]{4,6}⟩")),
    ("sign_id", re.compile(r"⟨id \d+⟩")),
)


def looks(shown: str) -> str:
    """What a token looks like: equal for tokens that a reader can't tell apart.

    >>> looks("...") == looks("…"), looks("со") == looks("co"), looks("–") == looks("-")
    (True, True, True)
    >>> looks("и") == looks("й"), looks(",") == looks(".")
    (False, False)
    """
    drawn = unicodedata.normalize("NFKD", shown.translate(_ALIKE))
    return unicodedata.normalize("NFKD", drawn.translate(_ALIKE))


def codes_of(tokens: Iterable["NamedToken"]) -> dict[int, str]:
    """By id, what tells a token apart from another of them that looks like it.

    Returns:
        the code points in which they differ, and the id where they differ in none; nothing for a
        token that no other looks like.
    """
    groups: defaultdict[str, dict[int, NamedToken]] = defaultdict(dict)
    for token in tokens:
        groups[looks(token.text)][token.id] = token
    found: dict[int, str] = {}
    for group in groups.values():
        if len(group) > 1:
            found |= dict(zip(group, _codes([*group.values()]), strict=True))
    return found


def signs_of(tokens: Iterable["NamedToken"]) -> dict[Sign, str]:
    """The first sign of each kind that stands for what has no shape, such as ⟨84⟩."""
    found: dict[Sign, str] = {}
    for token in tokens:
        for name, pattern in _SIGNS:
            # A whole text may spell such a sign letter by letter.
            sign = pattern.search(token.text)
            if name not in found and sign and sign[0].encode() not in token.bytes:
                found[name] = sign[0]
        if b"\t" in token.bytes:
            found.setdefault("sign_tab", "→")
    return found


def is_mark(shown: str) -> bool:
    """Whether a token is punctuation alone, small and easy to miss.

    >>> is_mark(","), is_mark("·—"), is_mark("·и"), is_mark("⟨84⟩"), is_mark("")
    (True, True, False, False, False)
    """
    return bool(shown) and all(unicodedata.category(one)[0] == "P" for one in shown)


def box(token: "NamedToken", codes: Mapping[int, str]) -> Markup:
    """A token in a sentence or a table, in a box of its own.

    Args:
        token: the token.
        codes: what tells tokens apart, see `codes_of`.
    """
    name = "piece boxed punct" if is_mark(token.text) else "piece boxed"
    title = f"id {token.id}" + (f": {codes[token.id]}" if token.id in codes else "")
    return Markup('<bdi class="{}" title="{}">{}</bdi>').format(name, title, spelled(token, codes))


def spelled(token: "NamedToken", codes: Mapping[int, str]) -> Markup:
    """A token's text, and what tells it apart in small letters."""
    code = codes.get(token.id)
    small = Markup("<sub>{}</sub>").format(code) if code else Markup()
    return Markup("{}{}").format(visible(token.text), small)


def _codes(group: Sequence["NamedToken"]) -> list[str]:
    """What tells tokens that look alike apart, one of each."""
    texts = [_text(token) for token in group]
    start = _num_shared(texts)
    end = _num_shared([text[start:][::-1] for text in texts])
    codes = [_points(text[start : len(text) - end]) for text in texts]
    if not all(codes):
        codes = [_points(text) for text in texts]
    counted = Counter(codes)
    return [
        code if counted[code] == 1 else f"{code}, id {token.id}"
        for code, token in zip(codes, group, strict=True)
    ]


def _num_shared(texts: Sequence[str]) -> int:
    """How many characters all begin with."""
    return sum(1 for _ in takewhile(lambda same: len({*same}) == 1, zip(*texts, strict=False)))


def _text(token: "NamedToken") -> str:
    try:
        return token.bytes.decode() or token.text
    except UnicodeDecodeError:
        return token.text


def _points(text: str) -> str:
    """The code points of a text, repeated ones counted.

    >>> _points("..."), _points("«"), _points("абвгд")
    ('3×U+002E', 'U+00AB', 'U+0430 U+0431 U+0432 U+0433 …')
    """
    runs = [(one, len([*same])) for one, same in groupby(text)]
    points = [f"{n}×U+{ord(one):04X}" if n > 1 else f"U+{ord(one):04X}" for one, n in runs]
    return " ".join([*points[:_MOST_CODES], *["…"] * (len(points) > _MOST_CODES)])
