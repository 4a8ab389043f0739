"""The page of a scored text: its numbers those of the command's JSON, its text no markup."""

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from gptft import api
from gptft.analysis.score import TextScore
from gptft.analysis.scored_tokens import RunnerUp, ScoredTokens, TokenScore
from gptft.files import as_json
from gptft.report.score import score_html
from gptft.report.scored_text import gain_style
from gptft.terminal.words import probability
from gptft.tokenization.tokens import Token
from tests.conftest import SENTENCES
from tests.decoding.conftest import model_dir
from tests.report.pages import check_page, heads_of, rows_of, texts_of

__all__ = ["model_dir"]  # of another vocabulary

TEXT = 'Буря <b>мглою</b> "небо" & \x1b[31m 😀\nто\u0301 سلام'


@pytest.fixture(scope="module")
def changed_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its weights moved, as training moves them."""
    folder = tmp_path_factory.mktemp("changed") / "tuned <b>"
    shutil.copytree(tiny_model_dir, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alone(tiny_model_dir: Path) -> TextScore:
    return api.score(str(tiny_model_dir), TEXT, use_cpu=True)


@pytest.fixture(scope="module")
def both(tiny_model_dir: Path, changed_dir: Path) -> TextScore:
    return api.score(str(changed_dir), TEXT, other=str(tiny_model_dir), use_cpu=True)


def test_the_numbers_are_those_of_json(alone: TextScore):
    page = score_html(alone, TEXT)
    check_page(page)
    values = as_json(alone)
    assert heads_of(page, "tokens1") == [
        "place", "token", "probability", "bits", "rank", "runners-up",
    ]  # fmt: skip
    rows = rows_of(page, "tokens1")
    assert len(rows) == len(values["tokens"])
    for number, (row, token) in enumerate(zip(rows, values["tokens"], strict=True), start=1):
        assert row[0] == str(number)
        assert row[2:5] == [
            probability(token["probability"]), f"{token['bits']:.2f}", f"{token['rank']:,}",
        ]  # fmt: skip
        others = [f"{o['piece']}\xa0{probability(o['probability'])}" for o in token["runners_up"]]
        assert row[5] == "\u2003".join(others)
    assert f'<td class="number">{values["perplexity"]:.2f}</td>' in page
    assert f'<td class="number">{values["bits_per_byte"]:.3f}</td>' in page


def test_the_text_is_shown_and_never_obeyed(alone: TextScore):
    page = score_html(alone, TEXT)
    (text,) = texts_of(page)
    shown = "".join(piece for _, piece in text)
    assert shown == TEXT.replace("\x1b", "⟨U+001B⟩").replace("\n", "↵\n").replace(
        "\u0301", "◌\u0301"
    )
    assert "<b>" not in page
    assert 'dir="auto" lang="ru" role="group"' in page
    # Tokens of one character are one piece, with as many rows as they are.
    assert sum(int(n) for n in re.findall(r'data-n="(\d+)"', page)) > 4


def test_colours_say_how_likely_and_the_legend_what_they_mean(alone: TextScore):
    page = score_html(replace(alone, tokens=made([0.9, 0.2, 0.05, 0.005, 0.0001, 0.5])), "abcdef")
    (text,) = texts_of(page)
    assert [style for style, _ in text] == ["p0", "p1", "p2", "p3", "p4", "p0"]
    for n, name in enumerate(("≥50%", "≥10%", "≥1%", "≥0.1%", "less")):
        assert f'<span class="p{n}">{name}</span>' in page


def made(probabilities: list[float], *, others: int = 0, label: str = "x") -> ScoredTokens:
    """Tokens a, b, c… with probabilities, and as many runners-up with a label of this kind."""
    names = [chr(97 + n % 26) for n in range(len(probabilities))]
    tokens = [Token(n, name, name.encode(), name, n, n + 1) for n, name in enumerate(names)]
    rest = tuple(RunnerUp(1000 + n, 0.01, None) for n in range(others))
    scores = [TokenScore(n, math.log(p), None, 1, rest) for n, p in enumerate(probabilities)]
    return ScoredTokens(tokens, scores, lambda i: Token(i, label, label.encode(), label, 0, 0))


def test_two_models_side_by_side_and_their_difference(both: TextScore):
    page = score_html(both, TEXT)
    check_page(page)
    assert both.other is not None
    ours, theirs = as_json(both), as_json(both.other)
    rows, pair = rows_of(page, "tokens1"), zip(ours["tokens"], theirs["tokens"], strict=True)
    for row, (one, other), gain in zip(rows, pair, ours["gained_bits"], strict=True):
        assert gain == pytest.approx(other["bits"] - one["bits"])
        assert row[2] == probability(one["probability"])
        assert row[5] == probability(other["probability"])
        assert row[8] == f"{gain:+.2f}".replace("-", "−")
    mine, base, difference = texts_of(page)
    assert len({"".join(t for _, t in text) for text in (mine, base, difference)}) == 1
    single = {at: g for at, g in enumerate(ours["gained_bits"]) if len(difference) == len(rows)}
    for at, gain in single.items():
        assert difference[at][0] == gain_style(gain)
    assert {style[:1] for style, _ in difference} >= {"g", "l"}


def test_where_they_differ_most_comes_first(both: TextScore):
    page = score_html(both, TEXT)
    listed = page[page.index("Where they differ most") :]
    bits = [
        float(one.replace("−", "-"))
        for one in re.findall(r'<td class="number">([+−][\d.]+)</td></tr>', listed)
    ]
    most = sorted((abs(gain) for gain in both.gains or () if gain), reverse=True)[:30]
    assert [abs(one) for one in bits] == pytest.approx(most, abs=0.005)


def test_another_tokenizer_gives_two_texts_and_no_difference(tiny_model_dir: Path, model_dir: Path):
    text = SENTENCES[0]
    found = api.score(str(tiny_model_dir), text, other=str(model_dir), use_cpu=True)
    assert found.gains is None
    assert found.other is not None
    page = score_html(found, text)
    check_page(page)
    assert "The difference" not in page
    rates = f"{found.bits_per_byte:.3f} and {found.other.bits_per_byte:.3f}"
    assert f"different tokens, so only bits per byte compare: {rates}." in page
    assert len(texts_of(page)) == 2
    assert len(rows_of(page, "tokens1")) == len(found.tokens)
    assert len(rows_of(page, "tokens2")) == len(found.other.tokens)


def test_the_list_is_of_tokens_that_the_page_has(alone: TextScore, monkeypatch: pytest.MonkeyPatch):
    likely = [0.5] * 100 + [1e-6] * 60
    other = replace(alone, model="other", tokens=made([0.25] * 3 + [0.5] * 157))
    monkeypatch.setattr("gptft.report.scored_text._MOST_TOKENS", 100)
    page = score_html(replace(alone, tokens=made(likely), other=other), "abc")
    check_page(page)
    assert re.findall(r'<td class="number">([+−][\d.]+)</td></tr>', page) == ["+1.00"] * 3


@pytest.mark.parametrize("label", ["x", "Ж" * 24, "漢" * 12, "<&>'\"" * 5])
def test_a_long_text_is_cut_and_the_page_says_so(alone: TextScore, label: str):
    tokens = made([0.25] * 12_000, others=5, label=label)
    other = replace(alone, model="other", tokens=made([0.5] * 12_000, others=5, label=label))
    page = score_html(replace(alone, tokens=tokens, other=other), "abc")
    assert len(page.encode()) < 5_000_000
    rows = rows_of(page, "tokens1")
    assert len(rows) == 10_000 if label == "x" else 2_000 < len(rows) <= 10_000
    assert f"Shown are the first {len(rows):,} of 12,000 tokens." in page


def test_a_token_without_a_score_has_none_on_the_page(alone: TextScore):
    tokens = made([0.5, 0.25, 0.5])
    later = replace(alone, tokens=replace(tokens, scores=tokens.scores[1:]), begins_after=None)
    page = score_html(later, "abc")
    check_page(page)
    assert rows_of(page, "tokens1")[0][2:] == ["–", "–", "–", ""]
    assert texts_of(page)[0][0] == ("none", "a")
    assert "not scored" in page
