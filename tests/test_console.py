"""What is printed for people: control characters show, and never reach a terminal."""

import json
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptft import console
from gptft.files import JsonFields


@pytest.fixture(autouse=True)
def _new_consoles() -> None:
    """Consoles of the captured streams, not those of an earlier test."""
    console.stdout.cache_clear()
    console.stderr.cache_clear()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a\x1b[2J\x07\r\x00b", r"a\x1b[2J\x07\r\x00b"),
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


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("мой\u202etxt.exe\u2069\u200f", r"мой\u202etxt.exe\u2069\u200f"),
        ("a\nerror: b", r"a\nerror: b"),
        ("a\u2028b\u2029c\ufeff", r"a\u2028b\u2029c\ufeff"),
        ("a\ud800", r"a\ud800"),
        (
            "👩\u200d💻 تجربة\n  gptft",
            "👩\u200d💻 تجربة\n  gptft",
        ),  # joined, from right to left, ours
    ],
)
def test_no_name_looks_like_another_one_or_a_line_of_ours(
    text: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.error(text)
    console.notice(text)
    assert capsys.readouterr().err == f"error: {printed}\n{printed}\n"


@pytest.mark.parametrize("letter", ["x", "я", "\x1b", "\u202e", "\n"])
def test_a_message_is_cut_in_its_middle(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a.yaml:3:7  {letter * 20_000_000} is no number. Give one."
    console.error(text)
    (said,) = capsys.readouterr().err.splitlines()
    assert len(said) <= 2_000
    assert said.startswith("error: a.yaml:3:7  ")
    assert said.endswith(" is no number. Give one.")
    assert "characters ...]" in said


def test_a_command_stays_in_one_line_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = Console(file=sys.stderr, force_terminal=True, width=20, highlight=False)
    monkeypatch.setattr(console, "stderr", lambda: narrow)
    command = "  gptft train --resume my.yaml --set training.output_dir='runs/a b'"
    console.error(f"Stopped after a step that is saved. Resume with:\n{command}")
    said = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert said == ["error: Stopped after", "a step that is", "saved. Resume with:", command]


def test_a_flood_of_problems_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.error(*(f"problem {number}" for number in range(1_250)))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: problem 0"
    assert said[-2:] == ["problem 99", "... and 1,150 more."]


def test_json_is_as_safe(capsys: pytest.CaptureFixture[str]) -> None:
    console.result_json({"текст": "\x1b\x9b\n"})
    out = capsys.readouterr().out
    assert out == '{\n  "текст": "\\u001b\\u009b\\n"\n}\n'
    assert json.loads(out) == {"текст": "\x1b\x9b\n"}


class _Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class _Named(JsonFields):
    json_also = ("double",)

    number: float
    parts: tuple["_Named", ...] = ()

    @property
    def double(self) -> float:
        return self.number * 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ([], []),
        ({}, {}),
        ("a\nb", "a\nb"),
        (float("nan"), None),
        (_Colour.RED, "red"),
        (b"ab", "6162"),
        ({"a": [], "b": {}, "c": ([], {}, [1, ("x\n",)])},
         {"a": [], "b": {}, "c": [[], {}, [1, ["x\n"]]]}),
        ([{"a": float("inf")}, (1, Path("x/y"), b"")], [{"a": None}, [1, "x/y", ""]]),
        ({1: {"b": {"c": _Colour.RED}}}, {"1": {"b": {"c": "red"}}}),
        (
            _Named(1.5, (_Named(float("inf")), _Named(2.0))),
            {
                "number": 1.5,
                "parts": [
                    {"number": None, "parts": [], "double": None},
                    {"number": 2.0, "parts": [], "double": 4.0},
                ],
                "double": 3.0,
            },
        ),
    ],
)  # fmt: skip
def test_json_is_what_the_standard_library_writes(
    value: Any, plain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    console.result_json(value)
    assert capsys.readouterr().out == json.dumps(plain, indent=2) + "\n"


class _Texts(Sequence[str]):
    """A thousand texts of 10 kB, each made when it is asked for."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, at: Any) -> Any:
        if at >= len(self):
            raise IndexError(at)
        return f"{at:,} " * 2000


def test_a_long_list_is_never_held_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdout", file)
        tracemalloc.start()
        console.result_json({"texts": _Texts()})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 7_000_000
    assert peak < 500_000
