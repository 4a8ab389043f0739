"""Pages of runs, strategies, tokens, scores, predictions, reasons and copies in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gptft import api
from gptft.analysis.compare.results import StrategyResult
from gptft.report.comparison import comparison_html
from gptft.report.generation import generation_html
from gptft.report.html import report
from gptft.report.novelty import novelty_html
from gptft.report.prediction import prediction_html
from gptft.report.run_comparison import run_comparison_html
from gptft.report.score import score_html
from gptft.report.tokens import tokens_html
from gptft.runs.compare import compare_runs
from gptft.runs.read import read_run
from tests.browser import CHROMIUM, Browser
from tests.report.conftest import MakeRun
from tests.report.contrast import check_contrast
from tests.report.pages import rows_of
from tests.report.test_comparison import rows
from tests.report.test_generation_page import generated
from tests.report.test_novelty_page import measured, text_of
from tests.report.test_prediction_page import predicted
from tests.report.test_score_page import TEXT, changed_dir
from tests.report.test_tokens import measured as measured_tokens

__all__ = ["changed_dir", "rows"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

LONG = "Буря мглою " * 5 + "х" * 90


@pytest.fixture(scope="module")
def pages(
    tiny_model_dir: Path, changed_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    text = TEXT + LONG
    score = api.score(str(changed_dir), text, other=str(tiny_model_dir), use_cpu=True)
    both = predicted(tiny_model_dir, prompt=LONG[:40], other=str(changed_dir), steps=3, top=8)
    reasons = generated(tiny_model_dir, [TEXT[:8], LONG[:40]], top_k=4)
    made = {
        "score": score_html(score, text),
        "prediction": prediction_html(both),
        "generation": generation_html("tiny", reasons.texts, reasons.tokens),
        "novelty": novelty_html(measured(text_of(), text_of("", LONG))),
    }
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in made}
    for name, page in made.items():
        paths[name].write_text(page, encoding="utf-8")
    return paths


@pytest.fixture(params=[(400, False), (400, True), (1280, True), (3840, False)], ids=str)
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    width, dark = request.param
    with Browser(width=width, dark=dark) as browser:
        yield browser


def test_every_page_fits_reads_well_and_asks_for_nothing(
    browser: Browser, pages: dict[str, Path]
) -> None:
    for path in pages.values():
        browser.open(path.as_uri())
        browser.wait("document.readyState === 'complete'")
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth"), path
        check_contrast(browser)
    assert browser.complaints == []
    assert browser.requests == [path.as_uri() for path in pages.values()]


def test_pages_of_runs_and_strategies_fit_too(
    browser: Browser, make_run: MakeRun, rows: list[StrategyResult], tmp_path: Path
) -> None:
    """Their tables scroll, each in itself; the page doesn't."""
    names = ("loss", "perplexity", "bits_per_byte")
    wide = {f"{name}_{when}": 123_456_789.012 for name in names for when in ("before", "after")}
    wide |= {"num_tokens": 1_234_567_890, "num_bytes": 1_234_567_890}
    runs = [
        make_run(
            name,
            samples=[{"step": step, "prompt": LONG, "continuation": LONG} for step in (0, 20, 40)],
            config={
                "model": {"name": LONG.replace(" ", "/")}, "training": {"learning_rate": rate},
                "samples": {"prompts": [LONG]},
            },
            result={"train": wide, "validation": wide, "general": {"ru": wide, "en": wide}},
        )
        for name, rate in (("a", 1e-3), ("x" * 90, 5e-4))
    ]  # fmt: skip
    made = {
        "report": report(read_run(runs[1])),
        "runs": run_comparison_html(compare_runs(runs)),
        "strategies": comparison_html(rows, model=LONG, prompt=LONG),
        "tokens": tokens_html([measured_tokens(LONG), measured_tokens(LONG)]),
    }
    for name, page in made.items():
        path = tmp_path / f"{name}.html"
        path.write_text(page, encoding="utf-8")
        browser.open(path.as_uri())
        browser.wait("document.readyState === 'complete'")
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert browser.complaints == []


TIP = "document.getElementById('tip')"
SHOWN = f"{TIP}.hidden ? '' : {TIP}.querySelector('dd').textContent"


@pytest.mark.parametrize(("name", "text"), [("score", 3), ("generation", 4)])
def test_a_token_says_its_numbers_by_mouse_keyboard_and_touch(
    browser: Browser, pages: dict[str, Path], name: str, text: int
) -> None:
    browser.open(pages[name].as_uri())
    browser.wait("document.readyState === 'complete'")
    text_of_page = f"document.querySelectorAll('.scored')[{text - 1}]"
    table = browser.run(f"{text_of_page}.dataset.table")
    counts = browser.run(f"[...{text_of_page}.children].map((one) => +(one.dataset.n || 1))")
    rows = rows_of(pages[name].read_text(encoding="utf-8"), table)
    assert sum(counts) == len(rows)
    numbers = [rows[sum(counts[:at])][2] for at in range(len(counts))]

    assert browser.run(SHOWN) == ""
    browser.run(f"{text_of_page}.children[1].id = 'second'")
    browser.click("#second")
    assert browser.run(SHOWN) == numbers[1]
    box = browser.run(f"(() => {{ const b = {TIP}.getBoundingClientRect();"
                      " return [b.left, b.right - innerWidth]; })()")  # fmt: skip
    assert box[0] >= 0 >= box[1]
    for key, at in (("ArrowRight", 2), ("End", -1), ("Home", 0)):
        browser.press(key)
        assert browser.run(SHOWN) == numbers[at], key
        assert browser.run("document.activeElement.getAttribute('aria-describedby')") == "tip"
    browser.press("Escape")
    assert browser.run(SHOWN) == ""
    assert browser.run(f"{text_of_page}.querySelectorAll('[tabindex=\"0\"]').length") == 1
    browser.run("document.querySelector('h1').click()")
    browser.press("Tab")
    assert browser.complaints == []
