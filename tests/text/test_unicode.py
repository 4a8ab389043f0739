import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptft.text.unicode import join_pairs, only_text, text_problem

HALF = st.characters(categories=["Cs"])


@given(st.text(st.characters(exclude_categories=[])))
def test_what_has_no_problem_is_what_utf8_holds(text: str) -> None:
    joined = join_pairs(text)
    try:
        joined.encode()
        is_text = "\0" not in joined
    except UnicodeEncodeError:
        is_text = False
    assert (text_problem(joined) is None) == is_text
    assert text_problem(only_text(text)) is None
    assert len(only_text(text)) == len(text)


@settings(max_examples=30)
@given(st.text())
def test_pairs_are_joined_as_json_joins_them(text: str) -> None:
    escapes = json.dumps(text)
    halves = "".join(chr(int(code, 16)) for code in _units(text))
    assert join_pairs(halves) == json.loads(escapes) == text


def _units(text: str) -> list[str]:
    """The UTF-16 code units of a text, in hexadecimal."""
    raw = text.encode("utf-16-be")
    return [raw[i : i + 2].hex() for i in range(0, len(raw), 2)]


@given(HALF, st.text(max_size=3), st.text(max_size=3))
def test_a_half_is_found_wherever_it_is(half: str, before: str, after: str) -> None:
    text = f"{before.replace(chr(0), '')}{half}{after}"
    place = len(before.replace("\0", "")) + 1
    expected = f"has half of a surrogate pair, U+{ord(half):04X} at character {place}"
    assert text_problem(text) == expected


@pytest.mark.parametrize("text", ["", "Мороз", "\U0001f600", "\ufffd\uffff", "\x01\x7f\u202e"])
def test_text_is_left_alone(text: str) -> None:
    assert text_problem(text) is None
    assert join_pairs(text) == only_text(text) == text
