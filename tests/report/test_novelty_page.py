"""The page of what is copied: its numbers those of JSON, its marks in their places."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from gptft.analysis.memorization import (
    CopiedStretch,
    Memorization,
    MemorizationSummary,
    TextMemorization,
)
from gptft.analysis.ngram_search import Copied
from gptft.analysis.span_places import Place
from gptft.analysis.training_text import WrittenText
from gptft.files import as_json
from gptft.report.novelty import novelty_html
from gptft.terminal.words import percent
from tests.report.pages import check_page, rows_of

PROMPT, CONTINUATION = "Да <b>", "аж буря мглою небо\x1b кроет вихри"
NGRAMS = {4: 10, 8: 6, 16: 0}


def copied(longest: int = 5) -> Copied:
    found = {4: 5, 8: 1, 16: 0} if longest else dict.fromkeys(NGRAMS, 0)
    return Copied(longest, 2, (1,) * longest, 7 if longest else None, 3, found, NGRAMS)


def text_of(prompt: str = PROMPT, continuation: str = CONTINUATION) -> TextMemorization:
    whole = prompt + continuation
    quote = " мглою небо"
    at, behind = whole.find(quote), whole.find(" вихри")
    stretches = (
        CopiedStretch(at - 5, at + len(quote), 6),
        CopiedStretch(behind, behind + len(" вихри"), 4),
    )
    place = Place(3, "<poem>.txt", 12)
    return TextMemorization(
        WrittenText(prompt, continuation), 13, copied(), quote, place, at, stretches
    )


def measured(*texts: TextMemorization, held_out: bool = True) -> Memorization:
    copies = [text.copied for text in texts]
    theirs = MemorizationSummary(4, 128, 6, 4.5, {4: 0.125, 8: 0.001, 16: None})
    return Memorization(
        Path("runs/<poem>"), 1234, texts, MemorizationSummary.of(copies, num_tokens=26),
        theirs if held_out else None, 0, None,
    )  # fmt: skip


def marks(page: str) -> list[tuple[str, str]]:
    found = re.search(r'<div class="copies".*?>(.*?)</div>', page, re.S)
    assert found is not None
    pieces = re.findall(r'<(?:mark|span) class="(\w+)">(.*?)</(?:mark|span)>', found[1], re.S)
    return [(style, unescape(text)) for style, text in pieces]


def test_every_number_is_that_of_json():
    found = measured(text_of(), text_of())
    page = novelty_html(found)
    check_page(page)
    values = as_json(found)
    for row, values_of in zip(
        rows_of(page, "accounts"), (values["all"], values["held_out"]), strict=True
    ):
        assert row[1:4] == [
            f"{values_of['num_tokens']:,}", str(values_of["longest"]),
            f"{values_of['median_longest']:g}",
        ]  # fmt: skip
        shares = [percent(share, decimals=0) for share in values_of["shares"].values()]
        assert row[4::2] == shares
    sizes = [float(one) for one in re.findall(r"--size: ([\d.]+)%", page)]
    assert sizes == pytest.approx([50, 100 / 6, 0, 12.5, 0.1, 0], rel=1e-3)
    assert "Compared with the 1,234 tokens" in page
    assert "5 tokens, 11 characters. It stands in <poem>.txt:12, the first of 3" in unescape(page)


def test_copies_are_marked_where_they_stand():
    page = novelty_html(measured(text_of()))
    assert marks(page) == [
        ("given", "Да <b>"),
        ("copied", " буря"),
        ("longest", " мглою небо"),
        ("copied", " вихри"),
    ]
    plain = re.search(r'<div class="copies".*?>(.*?)</div>', page, re.S)
    assert plain is not None
    shown = unescape(re.sub("<[^>]+>", "", plain[1]))
    assert shown == (PROMPT + CONTINUATION).replace("\x1b", "␛")
    assert 'class="copies" dir="auto" lang="ru"' in page
    assert "<b>" not in page


def test_nothing_copied_and_nothing_held_out():
    bare = replace(text_of(), copied=copied(0), quote="", place=None, stretches=())
    page = novelty_html(measured(bare, held_out=False))
    check_page(page)
    assert [style for style, _ in marks(page)] == ["given"]
    assert "Nothing of it is copied." in page
    assert "The run held no text out" in page
    assert len(rows_of(page, "accounts")) == 1


def test_what_a_page_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch):
    one = text_of()
    size = len(PROMPT + CONTINUATION)
    monkeypatch.setattr("gptft.report.novelty._MOST_CHARACTERS", size + 20)
    page = novelty_html(measured(one, one, one))
    check_page(page)
    assert "Shown are 2 texts of 3." in page
    assert f"its last {size - 20} characters aren't shown" in unescape(page)


def test_a_page_of_long_texts_stays_below_5_mb():
    step = len(" небо кроет")
    stretches = tuple(CopiedStretch(n * step, n * step + 5, 4) for n in range(200_000))
    long = replace(text_of("", " небо кроет" * 200_000), stretches=stretches)
    assert len(novelty_html(measured(long)).encode()) < 5_000_000
