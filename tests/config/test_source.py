import json
import math
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gptft.api import default_config
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
        ("tRUE", True),
        (" False ", False),
        ("'False'", "False"),
        ("falsehood", "falsehood"),
        ("null", None),
        ("~", None),
        ("'5e-5'", "5e-5"),
        ("2001-01-01", "2001-01-01"),
        ("[1, 2.5, да]", [1, 2.5, "да"]),
        ("Мороз: и солнце", "Мороз: и солнце"),
        ("Мороз\nи солнце: день", "Мороз\nи солнце: день"),
        ("Мороз # и солнце", "Мороз # и солнце"),
        ("# Глава", "# Глава"),
        ("C#", "C#"),
        ("'a # b'", "a # b"),
        ("[a, b]", ["a", "b"]),
        ("5 # steps", "5 # steps"),
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


@pytest.mark.parametrize("text", ["😀", "a😀б𝒳", "\U0010ffff"])
def test_what_json_writes_is_read_back(text: str):
    written = json.dumps({text: {"list": [text], "text": text}})
    assert "\\ud" in written
    assert parse_yaml(written, name="c.yaml").values == {text: {"list": [text], "text": text}}


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ('a: "x\\ud83d"', "c.yaml:1:1  a ", "half of a surrogate pair, U+D83D at character 2"),
        ('a:\n  b: ["\\ude00\\ud83d"]', "c.yaml:2:7  a.b.0 ", "U+DE00 at character 1"),
        ('"k\\ud83d": 1', "c.yaml:1:1  k? ", "U+D83D at character 2"),
        ('a: "\\0"', "c.yaml:1:1  a ", "a NUL at character 1"),
        ('a: {"\\0": 1}', "c.yaml:1:5  a.? ", "a NUL at character 1"),
    ],
)
def test_what_no_file_could_hold_is_refused_at_its_line(text: str, place: str, problem: str):
    source = parse_yaml(text, name="c.yaml")
    ((_, message),) = source.problems
    assert message.startswith(place)
    assert problem in message
    json.dumps(source.values, ensure_ascii=False).encode()  # what is read on is text


def laughs(levels: int, *, of: str) -> str:
    """YAML whose last alias stands for 10 ** levels of the first."""
    lines = [f"a0: &a0 {of}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(5, of="[x]"), "more than 100,000 values where its aliases"),
        (laughs(9, of="[x]"), "more than 100,000 values where its aliases"),
        (laughs(30, of="{b: c}"), "more than 100,000 values where its aliases"),
        (laughs(4, of="y" * 1_000), "more than 4,000,000 characters where its aliases"),
        ("a: " + "[" * 100_000, "c.yaml:1:36  more than 32 levels"),
        ("".join(f"{' ' * n}a:\n" for n in range(1_000)), "c.yaml:33:33  more than 32 levels"),
    ],
)
def test_what_would_take_minutes_is_refused_in_seconds(text: str, said: str):
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, name="c.yaml")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200
    assert time.monotonic() - begun < 30  # 4 s; a machine may have other things to do


def test_too_many_values_are_not_even_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptft.config.source._MAX_NODES", 1_000)
    with pytest.raises(ConfigError, match=r"^c.yaml:1:1999  more than 1,000 values"):
        # The mapping, its name and the list are three nodes; item 998 begins in column 5 + 2 * 997.
        parse_yaml("a: [" + "1," * 500_000, name="c.yaml")


def test_one_parser_reads_all_values(monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr("gptft.config.source.YAML", lambda **kw: made.append(kw) or YAML(**kw))
    values = parse_yaml("a: [" + "1," * 2_000 + "]", name="c.yaml").values
    assert values == {"a": [1] * 2_000}
    assert len(made) <= 2


@pytest.mark.slow
def test_a_large_config_stays_quick():
    text = "data:\n  train:\n" + "".join(f"    - {n}.txt\n" for n in range(50_000))
    begun = time.monotonic()
    values = parse_yaml(text, name="c.yaml").values
    assert values["data"]["train"][-1] == "49999.txt"
    assert time.monotonic() - begun < 30


def test_aliases_that_stand_for_little_are_written_out():
    assert parse_yaml(laughs(3, of="x"), name="c.yaml").values["a3"][9][9] == ["x"] * 10
    assert parse_yaml("a: &x 1\nb: &x 2\nc: *x", name="c.yaml").values["c"] == 2


@pytest.mark.parametrize("text", ["2001-13-45", "1" * 5_000, "!!int x", "!!float 1e", "!!bool 7"])
def test_a_value_that_its_type_does_not_take_stays_text(text: str):
    read = parse_yaml(f"a: {text}", name="c.yaml").values["a"]
    assert read == text.split()[-1]


def test_an_override_whose_name_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="the setting's name has half of a surrogate pair"):
        default_config(overrides=["strategies.\udcff.top_k=1"])
