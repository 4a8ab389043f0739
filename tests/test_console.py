"""What is printed for people: control characters show, and never reach a terminal."""

import json

import pytest

from gptft import console


@pytest.fixture(autouse=True)
def _new_consoles() -> None:
    """Consoles of the captured streams, not those of an earlier test."""
    console.stdout.cache_clear()
    console.stderr.cache_clear()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a\x1b[2J\x07\r\x00b", r"a\x1b[2J\x07\x0d\x00b"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("Ёж 中 [red]\n  two\udcff", "Ёж 中 [red]\n  two\\udcff"),
    ],
)
def test_no_string_is_obeyed_by_a_terminal(
    text: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.error(text)
    console.notice(text)
    console.result(text)
    out, err = capsys.readouterr()
    assert err == f"error: {printed}\n{printed}\n"
    assert out == f"{printed}\n"


def test_json_is_as_safe(capsys: pytest.CaptureFixture[str]) -> None:
    console.result_json({"текст": "\x1b\x9b\n"})
    out = capsys.readouterr().out
    assert out == '{\n  "текст": "\\u001b\\u009b\\n"\n}\n'
    assert json.loads(out) == {"текст": "\x1b\x9b\n"}
