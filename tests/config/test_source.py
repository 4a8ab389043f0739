import math
from pathlib import Path

import pytest

from gptft.config.source import dump_yaml, parse_value, parse_yaml, read_yaml
from gptft.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".inf", math.inf),
        ("12", 12),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'5e-5'", "5e-5"),
        ("2001-01-01", "2001-01-01"),
        ("[1, 2.5, да]", [1, 2.5, "да"]),
        ("Мороз: и солнце", "Мороз: и солнце"),
        ("Мороз\nи солнце: день", "Мороз\nи солнце: день"),
    ],
)
def test_values_are_read_as_yaml_1_2_reads_them(text: str, value: object):
    read = parse_value(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["a\udcffb", '"\\ud800"', "[x, '\\ud800', \"\\ud800\"]"])
def test_an_override_that_is_no_unicode_is_refused(text: str):
    with pytest.raises(ConfigError, match=r"is not Unicode|half of a surrogate pair"):
        parse_value(text)


def test_every_key_has_its_line_and_column():
    source = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - y\n", name="c.yaml")
    assert source.problem(("a", "b"), "is wrong") == ((2, 3), "c.yaml:2:3  is wrong")
    assert source.problem(("a", "c", 1), "is wrong") == ((5, 7), "c.yaml:5:7  is wrong")
    assert source.problem(("a", "not there"), "is wrong") == ((1, 1), "c.yaml:1:1  is wrong")


def test_a_name_that_is_a_list_is_one_line():
    with pytest.raises(ConfigError) as caught:
        parse_yaml("a: 1\n? [b, c]\n: 2\n", name="c.yaml")
    assert str(caught.value) == (
        "c.yaml:2:3  a setting's name must be text, not a list or a mapping."
    )


def test_a_duplicate_key_is_a_problem_with_both_lines():
    source = parse_yaml("a:\n  b: 1\n  b: 2\n", name="c.yaml")
    assert source.problems == [
        ((3, 3), "c.yaml:3:3  a.b is set twice, first in line 2. Keep one of them.")
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: b: c\n", "c.yaml:1:5"),
        ("a: [1, 2\n", "c.yaml:2:1"),
        ("a:\n\tb: 1\n", "c.yaml:2:1"),
        ("- a\n", "c.yaml:1:1"),
        ("just words\n", "c.yaml:1:1"),
        ("a: !!python/object:os.system x\n", "c.yaml:1:4"),
    ],
)
def test_what_is_no_config_is_one_line_with_its_place(text: str, place: str):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, name="c.yaml")
    message = str(caught.value)
    assert message.startswith(place)
    assert "\n" not in message


def test_an_alias_that_holds_itself_ends(tmp_path: Path):
    with pytest.raises(ConfigError, match="nested more than"):
        parse_yaml("a: &x\n  b: *x\n", name="c.yaml")


def test_a_file_that_is_not_utf8_is_named_with_the_offset(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_bytes("имя: x".encode("cp1251"))
    with pytest.raises(ConfigError, match=r"c\.yaml is not a config: .* 0xe8 at offset 0"):
        read_yaml(path)


def test_a_dumped_config_reads_back_the_same():
    values = {
        "a": {"rate": 1e-5, "text": "5e-5", "no": "no", "on": True, "none": "null"},
        "prompts": ["Мороз: и\nсолнце", "  пробелы  ", ""],
        "empty": {},
        "number": 3,
    }
    assert parse_yaml(dump_yaml(values), name="d").values == values
