"""The poems in data/pushkin are clean text, and their README describes the files that are there."""

import re
from pathlib import Path

import pytest

PUSHKIN = Path(__file__).resolve().parents[1] / "data" / "pushkin"
POEMS = sorted(PUSHKIN.glob("*.txt"))
LETTERS = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
ALLOWED = frozenset(LETTERS + LETTERS.upper() + ",.:;!?«»—- \n")
MAX_LINE = 60

each_poem = pytest.mark.parametrize("poem", POEMS, ids=lambda poem: poem.stem)


def read_poem(poem: Path) -> str:
    """Decode a poem byte for byte, so that no newline is translated on the way."""
    return poem.read_bytes().decode("utf-8")


def first_lines_in_readme() -> dict[str, str]:
    """Map each file the README's table names to the first line given for it."""
    readme = (PUSHKIN / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in readme.splitlines() if line.startswith("|")]
    return {row[0].strip(): row[3].strip() for row in rows[2:]}


def test_there_are_twelve_poems() -> None:
    assert len(POEMS) == 12


@each_poem
def test_the_name_is_lower_case_ascii(poem: Path) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.txt", poem.name)


@each_poem
def test_only_russian_letters_and_plain_punctuation(poem: Path) -> None:
    # A BOM, a carriage return, a tab, a Latin look-alike or a combining accent all end up here.
    strangers = sorted(set(read_poem(poem)) - ALLOWED)
    assert [f"U+{ord(char):04X}" for char in strangers] == []


@each_poem
def test_yo_is_kept_for_vsyo(poem: Path) -> None:
    words = re.findall(r"\w+", read_poem(poem).lower())
    assert {word for word in words if "ё" in word} <= {"всё"}


@each_poem
def test_ends_in_exactly_one_newline(poem: Path) -> None:
    text = read_poem(poem)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@each_poem
def test_lines_are_trimmed_and_short(poem: Path) -> None:
    lines = read_poem(poem).split("\n")
    assert [line for line in lines if line != line.strip() or len(line) > MAX_LINE] == []


@each_poem
def test_stanzas_are_one_empty_line_apart(poem: Path) -> None:
    text = read_poem(poem)
    assert not text.startswith("\n")
    assert "\n\n\n" not in text


def test_readme_names_every_file_and_its_first_line() -> None:
    assert first_lines_in_readme() == {
        poem.name: read_poem(poem).split("\n", 1)[0] for poem in POEMS
    }
