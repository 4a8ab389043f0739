"""Patterns that `re` would take forever for, and those that mean the same as to `re`."""

import re
import time
import warnings

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from gptft.config.data import DataConfig
from gptft.documents.formats.plain_text import cut_text
from gptft.errors import ConfigError
from gptft.text.patterns import (
    TooSlow,
    bounded_fullmatch,
    compile_like_re,
    compile_pattern,
    written_out,
)

TOO_LARGE = {
    "repeats of repeats": "(?:(?:(?:a{1000}){1000}){1000}){1000}",
    "many of a group": "(?:ab?){1000000}",
    "many": "a{4294967294}",
    "more than can be counted": "a{99999999999999999999}",
    "nothing many times": "(?:){10000000}",
    "long": "ab" * 100_000,
    "groups in groups": "(" * 20_000 + ")" * 20_000,
}
BROKEN = ("(?P<", "[IVX", "(a", "a{5,2}", "*a", "(?<=a+)b", "(a)\\2", "\\", "(a{1000}){1000}{1000}")
HEADINGS = (
    r"[IVXLC]+\.?|(Глава|ГЛАВА|Часть|ЧАСТЬ)\b.{0,60}", r"(?i)глава \w+", r"\d{1,3}\.", "a{e}",
    "(?:Глава){e<=1}", "[[:alpha:]]+", r"[[\]a]+", r"[^]]+", "[]a]", "a{,2}", "{a}", "a{", r"\{2}",
    "(?x) I+ # a { and a [ in a comment\n [IV]*", "(?P<n>.)(?P=n)", r"(a)?(?(1)b|c)", "[a||b]",
)  # fmt: skip
LINES = (
    "IV.", "Глава 1", "ГЛАВА ПЕРВАЯ", "глава", "Плава", "123.", "a{e}", "a", "aa", "", "[:]", ":]",
    "a]", "alpha]", "{a}", "{2}", "II", "aab", "ab", "c", "|", "Лес", "[", "a{", "e}",
    "Глава{e<=1}",
)  # fmt: skip


@pytest.mark.parametrize("pattern", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("compiled", [compile_pattern, compile_like_re])
def test_what_would_fill_the_memory_is_refused_at_once(compiled, pattern: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"too deep|more than 100,000"):
        compiled(pattern)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("pattern", BROKEN)
def test_what_is_no_pattern_to_re_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_like_re(pattern)


@pytest.mark.parametrize("pattern", HEADINGS)
def test_a_pattern_means_what_it_means_to_re(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = re.compile(pattern)
    ours = compile_like_re(pattern)
    found = {line for line in LINES if ours.fullmatch(line)}
    assert found == {line for line in LINES if stock.fullmatch(line)}


@given(
    pattern=st.text("ab{}[]^|,12e:\\.*+?", max_size=8), lines=st.lists(st.text("abe{}[]:1,\\^|"))
)
def test_any_pattern_means_what_it_means_to_re(pattern: str, lines: list[str]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stock = re.compile(pattern)
    except re.error:
        return
    ours = compile_like_re(pattern)
    for line in lines:
        assert bool(ours.fullmatch(line)) == bool(stock.fullmatch(line))


def test_sizes_by_hand() -> None:
    assert written_out("") == 0
    assert written_out("abc") == 3
    assert written_out("a{3,9}b") == 4
    assert written_out("[abc]{5}") == 5
    assert written_out("(?:ab){10}") == 40  # ?, :, a and b
    assert written_out(r"\{9}") == 3


def test_a_match_that_would_never_end_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptft.text.patterns._SECONDS", 0.05)
    matches = bounded_fullmatch(regex.compile("(a|aa)+$"))
    assert matches("a" * 900)
    begun = time.monotonic()
    with pytest.raises(TooSlow):
        matches("a" * 900 + "!")
    assert time.monotonic() - begun < 2


def test_many_slow_matches_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptft.text.patterns._IS_SLOW", 0.0)
    monkeypatch.setattr("gptft.text.patterns._SLOW_SECONDS", 0.01)
    matches = bounded_fullmatch(regex.compile("(a|aa)+$"))
    with pytest.raises(TooSlow):
        _ = [matches("a" * 20 + "!") for _ in range(10_000)]


@pytest.mark.parametrize("heading", ["(a|aa)+$", "(?:a|aa|aaa)+[!]{2}", "(aa|a|aaa)*$"])
def test_a_heading_that_takes_forever_is_one_line(
    heading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptft.text.patterns._SECONDS", 0.05)
    data = DataConfig(train=["a.txt"], document_heading=heading)
    with pytest.raises(
        ConfigError, match=r"data.document_heading takes too long .* 901 characters"
    ):
        list(cut_text(["b\n\n" + "a" * 900 + "!\nc"], data))


@pytest.mark.parametrize("heading", ["(a+)+$", "(.*)*b", "(a|a)*b"])
def test_a_heading_that_re_takes_forever_for_is_matched(heading: str) -> None:
    data = DataConfig(train=["a.txt"], document_heading=heading)
    assert len(list(cut_text(["b\n\n" + "a" * 900 + "!\nc"], data))) == 1


@pytest.mark.parametrize("heading", [*TOO_LARGE.values(), *BROKEN])
def test_a_heading_that_is_no_pattern_is_one_line(heading: str) -> None:
    with pytest.raises(ValueError, match=r"data.document_heading is not a regular expression"):
        DataConfig(train=["a.txt"], document_heading=heading)
