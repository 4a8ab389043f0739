"""Text that may hold anything, as a terminal shows it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from gptft.terminal.cells import chopped, fit, fit_end
from gptft.terminal.text import escaped, harmless, quoted, readable, shown_path, visible

# A busy machine is no fault of the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# ESC [ 2 J clears a screen; U+202E turns the direction of what follows; U+009B is ESC [ in one.
HOSTILE = "a\x1b[2Jб\u202e\x9b\r\x00\u200b"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" a\n\tb", "·a↵→b"),
        (b"\x1b[2J", "⟨U+001B⟩[2J"),
        ("\u00a0\u200d\u2028".encode(), "⟨U+00A0⟩⟨U+200D⟩⟨U+2028⟩"),
        (b"\xd0\xbf\xd0", "п⟨d0⟩"),
        (b"\xf0\x9f\x98", "⟨f0 9f 98⟩"),
        ("\u0306й".encode(), "◌\u0306й"),
        ("мороз", "мороз"),
        ("a\udcffb", "a⟨ff⟩b"),
    ],
)
def test_nothing_is_hidden(raw: bytes | str, shown: str) -> None:
    assert visible(raw) == shown


@patient
@given(st.binary())
def test_whatever_the_bytes_nothing_reaches_the_terminal(raw: bytes) -> None:
    assert visible(raw).isprintable()
    assert readable(raw).replace("\n", "").isprintable()
    for character in harmless(raw):
        assert character.isprintable() or character in "\n\t\u200c\u200d" or character.isspace()
        assert character not in "\x1b\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"


@patient
@given(st.text())
def test_escaped_text_is_printable_and_reversible_where_it_was_not(text: str) -> None:
    line = escaped(text)
    assert line.isprintable()
    line.encode()
    if "\\" not in text and text.isascii():
        assert line.encode().decode("unicode_escape") == text


def test_readable_text_keeps_spaces_and_marks_line_breaks() -> None:
    assert readable("а б\n\tв\xa0".encode()) == "а б↵\n→в⟨U+00A0⟩"


def test_harmless_text_keeps_what_does_nothing() -> None:
    family = "👩\u200d👧"
    assert harmless(f"{family}\xa0\tа\nб".encode()) == f"{family}\xa0\tа\nб"
    assert harmless(HOSTILE.encode()) == ("a⟨U+001B⟩[2Jб⟨U+202E⟩⟨U+009B⟩⟨U+000D⟩⟨U+0000⟩⟨U+200B⟩")
    assert harmless("a\x1b\x9b".encode(), keeps=lambda c: c != "\x9b") == "a\x1b⟨U+009B⟩"


def test_names_and_messages_are_escaped() -> None:
    assert escaped(HOSTILE) == r"a\x1b[2Jб\u202e\x9b\r\x00\u200b"
    assert escaped("а\nб\tв", {"\n": " ↵ ", "\t": " "}) == "а ↵ б в"
    assert shown_path("стих\udcff.txt") == "стих\\xff.txt"


def test_long_text_is_cut_in_characters() -> None:
    assert quoted("Мороз и солнце", at_most=14) == "«Мороз и солнце»"
    assert quoted("Мороз и солнце", at_most=5) == "«Мороз…»"
    assert quoted("Мороз и солнце", at_most=6, keep="ends") == "«Мор…нце»"
    assert quoted("a\x1b\nb", at_most=9) == "«a\\x1b↵b»"


@patient
@given(
    st.text(st.sampled_from("абaé\u0301中😀")),
    st.integers(2, 12),
)
def test_cells_are_kept_to(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
    assert cell_len(fit_end(text, width)) <= width
    assert all(cell_len(part) <= width for part in chopped(text, width))
    assert "".join(chopped(f"а{text}", width)) == f"а{text}"


def test_the_end_of_a_text_is_what_is_shown_of_a_long_one() -> None:
    assert fit_end("Мороз и\nсолнце", 9) == "…и↵солнце"
    assert fit_end("中中中中", 4) == "…中"
    assert fit_end("中a" * 100_000, 4) == "…中a"  # cell by cell it would take hours
    assert fit("中中中", 4) == "中 …"
