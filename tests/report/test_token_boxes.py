"""Tokens on a page: none is taken for another, and no sign stays unexplained."""

import pytest

from gptft.analysis.explain.values import NamedToken
from gptft.report.token_boxes import box, codes_of, signs_of
from gptft.terminal.text import visible


def tokens_of(*texts: str | bytes) -> list[NamedToken]:
    raws = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return [NamedToken(number, visible(raw), raw) for number, raw in enumerate(raws)]


@pytest.mark.parametrize(
    ("texts", "codes"),
    [
        (("...", "…", "а"), ["3×U+002E", "U+2026"]),
        (("....", "….", "..."), ["3×U+002E", "U+2026"]),  # what both have at the end is left out
        ((" с", " c", "с", "d"), ["U+0441", "U+0063"]),  # Cyrillic, Latin; alone it is another
        (("Мос", "Moc"), ["U+041C U+043E U+0441", "U+004D U+006F U+0063"]),
        (("–", "—", "-"), ["U+2013", "U+2014", "U+002D"]),
        (("“", "”", '"'), ["U+201C", "U+201D", "U+0022"]),
        ((" ", "·", "•"), ["U+0020", "U+00B7", "U+2022"]),
        (("й", "и\u0306"), ["U+0439", "U+0438 U+0306"]),
        (("\n", "↵"), ["U+000A", "U+21B5"]),
        (("❤", "❤\ufe0f"), ["U+2764", "U+2764 U+FE0F"]),
    ],
)
def test_tokens_that_look_alike_are_told_apart(texts: tuple[str, ...], codes: list[str]) -> None:
    found = codes_of(tokens_of(*texts))
    assert [found[number] for number in range(len(codes))] == codes
    assert len(found) == len(codes)


@pytest.mark.parametrize(
    "texts",
    [
        ("а", "б", "в"), (",", ".", ";", ":"), ("и", "й"), ("e", "ё"), ("да", "Да", " да"),
        (b"\x84", b"\x85"), ("\x0c", "\x0b"), ("1", "2"), ("(", "["), ("»", ">"),
    ],
)  # fmt: skip
def test_tokens_that_look_different_are_left_as_they_are(texts: tuple[str | bytes, ...]) -> None:
    assert codes_of(tokens_of(*texts)) == {}


def test_the_same_token_twice_looks_like_no_other() -> None:
    (comma,) = tokens_of(",")
    assert codes_of([comma, comma]) == {}


def test_of_two_with_the_same_text_the_id_tells() -> None:
    pair = [NamedToken(7, "A", b"A"), NamedToken(65, "A", b"A")]  # a piece, and a single byte
    assert codes_of(pair) == {7: "U+0041, id 7", 65: "U+0041, id 65"}
    (cyrillic,) = tokens_of("А")
    assert codes_of([cyrillic, *pair]) == {
        0: "U+0410", 7: "U+0041, id 7", 65: "U+0041, id 65",
    }  # fmt: skip


def test_a_text_that_spells_a_sign_is_none() -> None:
    assert signs_of(tokens_of("⟨84⟩", "⟨U+000C⟩", "→", "⟨id 5⟩")) == {}
    assert signs_of(tokens_of(b"\x84\x85", "\x0c", "\ta", b"\x86")) == {
        "sign_bytes": "⟨84 85⟩", "sign_code": "⟨U+000C⟩", "sign_tab": "→",
    }  # fmt: skip


def test_nothing_of_a_token_becomes_markup() -> None:
    token = NamedToken(3, "<b>&'\x07", b"<b>&'\x07")
    assert box(token, {3: "<i>"}) == (
        '<bdi class="piece boxed" title="id 3: &lt;i&gt;">&lt;b&gt;&amp;&#39;␇'
        "<sub>&lt;i&gt;</sub></bdi>"
    )
