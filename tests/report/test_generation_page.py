"""The page of generated texts: each token before and after settings, as --json has them."""

import re
from html import unescape
from pathlib import Path

import pytest

from gptft import api
from gptft.api.generation import Generation
from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.report.generation import generation_html
from gptft.terminal.words import probability
from tests.report.pages import check_page, heads_of, rows_of, texts_of

PROMPTS = ['Буря <b>"&\x1b', "The"]


def generated(model: Path, prompts: list[str] = PROMPTS, **given: object) -> Generation:
    settings = {"max_new_tokens": 12, "seed": 1, **given}
    return api.generate(str(model), prompts, extras=["why"], given=settings, use_cpu=True)


def page_of(found: Generation) -> str:
    return generation_html("runs/<poem>", found.texts, found.tokens)


def test_every_number_is_that_of_json(tiny_model_dir: Path):
    found = generated(tiny_model_dir, top_k=4, temperature=0.5)
    page = page_of(found)
    check_page(page)
    assert "runs/&lt;poem&gt;" in page
    for number, row in enumerate(as_json(found.rows()), start=1):
        assert heads_of(page, f"tokens{number}") == [
            "place", "token", "probability", "after settings", "bits", "rank", "runners-up",
        ]  # fmt: skip
        shown = rows_of(page, f"tokens{number}")
        assert len(shown) == len(row["tokens"])
        for cells, token in zip(shown, row["tokens"], strict=True):
            if token["probability"] is None:
                assert cells[2:6] == ["–"] * 4
                continue
            assert cells[2:4] == [
                probability(token["probability"]), probability(token["processed_probability"]),
            ]  # fmt: skip
            other = token["runners_up"][0]
            both = (other["probability"], other["processed_probability"])
            assert cells[6].split("\u2003")[0] == f"{other['piece']}\xa0" + "→".join(
                map(probability, both)
            )
        settings = found.texts[number - 1].settings.sentence()
        assert f'<span lang="en">{settings}</span>. Cut at its length.' in page


def test_both_colourings_have_the_whole_text(tiny_model_dir: Path):
    found = generated(tiny_model_dir, top_k=2)
    texts = texts_of(page_of(found))
    assert len(texts) == 4
    for at, text in enumerate(found.texts):
        alone, after = texts[2 * at : 2 * at + 2]
        for pieces in (alone, after):
            shown = "".join(piece for _, piece in pieces).replace("↵\n", "\n")
            assert shown.startswith(text.prompt.replace("\x1b", "⟨U+001B⟩"))
        scored = [style for style, _ in after if style != "none"]
        # One of two tokens is at least as likely as the other.
        assert scored.count("p0") >= len(scored) // 4


def test_without_processors_there_is_one_colouring(tiny_model_dir: Path):
    page = page_of(generated(tiny_model_dir, strategy="greedy"))
    check_page(page)
    assert len(texts_of(page)) == 2
    assert "After settings" not in page
    assert "with an arrow" not in page
    assert "beams) isn't in it" in unescape(page)
    assert "What isn't scored is the prompt." in unescape(page)


def test_an_empty_prompt_leaves_nothing_unscored(tiny_model_dir: Path):
    page = page_of(generated(tiny_model_dir, [""]))
    check_page(page)
    assert "not scored" not in page
    assert "What isn't scored" not in page


def test_texts_beyond_what_a_page_has_are_said_to_be_left_out(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    found = generated(tiny_model_dir)
    first, second = map(len, found.tokens)
    monkeypatch.setattr("gptft.report.scored_text._MOST_TOKENS", first + 5)
    page = page_of(found)
    check_page(page)
    assert len(rows_of(page, "tokens2")) == 5
    assert f"Shown are 2 texts of 2, the last without its last {second - 5} tokens" in page
    monkeypatch.setattr("gptft.report.scored_text._MOST_TOKENS", first)
    page = page_of(found)
    assert re.search(r"Shown are 1 text of 2: a page has", page)
    assert 'id="tokens2"' not in page


def test_a_page_needs_the_reasons(tiny_model_dir: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="ask for why"):
        api.generate(str(tiny_model_dir), ["The"], html=tmp_path / "x.html", use_cpu=True)
