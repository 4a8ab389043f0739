"""Pages of explanations in a real browser, narrow and wide, light and dark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import Explanation
from gptft.report.explain import explain_html
from tests.architectures.models import save_tiny_model
from tests.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

PROMPT = "Мороз и солнце; день — 🐈 of words, and the cat sat"
KINDS = ("pico", "gpt2", "llama", "qwen3", "gpt_neox", "mamba")


@pytest.fixture(scope="module", params=KINDS)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, folder = request.param, tmp_path_factory.mktemp("page")
    if name != "pico":
        torch.manual_seed(3)
        save_tiny_model(name, folder)
        name = str(folder)
    found = explain(name, PROMPT if request.param != "mamba" else "Мороз", use_cpu=True)
    path = folder / "page.html"
    path.write_text(explain_html(found, "ru"), encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    return path


@pytest.fixture(params=[(1280, False), (1280, True), (400, False), (400, True)], ids=str)
def browser(request: pytest.FixtureRequest, page: Path) -> Iterator[Browser]:
    width, dark = request.param
    with Browser(width=width, dark=dark) as browser:
        browser.open(page.as_uri())
        browser.wait("document.querySelectorAll('#bars tr').length > 3")
        yield browser
        assert browser.complaints == []
        assert browser.requests == [page.as_uri()]


def check_labels(browser: Browser) -> None:
    """Each row and column of the large picture has its token beside it, large enough to read."""
    labels = browser.run(
        "(() => { const box = (one) => { const b = one.getBoundingClientRect();"
        " return [b.left, b.right, b.top, b.bottom]; };"
        " const named = (id) => [...document.getElementById(id).children].map((one) =>"
        " [one.textContent, one.title, parseFloat(getComputedStyle(one).fontSize), ...box(one)]);"
        " return { rows: named('large-rows'), columns: named('large-columns'),"
        " picture: box(document.getElementById('large-picture')) }; })()"
    )
    chips = browser.run(
        "[...document.querySelectorAll('#large-row bdi')].map((one) => one.textContent)"
    )
    left, right, top, bottom = labels["picture"]
    size = (right - left) / len(chips)
    assert size == pytest.approx((bottom - top) / len(chips), abs=0.1)
    for side, axis, start in (("rows", 5, top), ("columns", 3, left)):
        assert [one[0] for one in labels[side]] == chips
        for number, label in enumerate(labels[side]):
            assert label[1] == f"{number + 1}: {label[0]}"
            assert label[2] >= 11.5
            assert label[axis] == pytest.approx(start + number * size, abs=1)
            assert label[axis + 1] - label[axis] == pytest.approx(size, abs=0.5)


def test_it_fits_and_its_parts_move(browser: Browser) -> None:
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    before = browser.run("document.getElementById('kept').textContent")
    browser.run(
        "(() => { const p = document.getElementById('top-p'); p.value = '0.3';"
        " p.dispatchEvent(new Event('input')); })()"
    )
    assert browser.run("document.getElementById('kept').textContent") != before
    if browser.run("!document.getElementById('head-grid')"):
        return
    browser.click("#head-grid button:nth-of-type(1)")
    first = browser.run("document.getElementById('large-name').textContent")
    assert "слой 1" in first
    check_labels(browser)
    browser.click("#large-row button:nth-of-type(2)")
    assert browser.run("document.querySelectorAll('#large-row .asking').length") == 1
    shares = browser.run(
        "[...document.querySelectorAll('#large-row small')]"
        ".reduce((sum, one) => sum + +one.textContent.replace(',', '.'), 0)"
    )
    assert shares == pytest.approx(1.0, abs=0.03)  # of two digits each
    total = browser.run("document.querySelector('#opened-row .sum .number').textContent")
    assert float(total.replace(",", ".")) == pytest.approx(1.0, abs=0.002)


def opened(path: Path, found: Explanation, **window: int) -> Browser:
    """A browser with the page of an explanation, in English."""
    path.write_text(explain_html(found, "en"), encoding="utf-8")
    browser = Browser(**window)
    browser.open(path.as_uri())
    browser.wait("document.querySelectorAll('#bars tr').length > 3")
    return browser


def told(browser: Browser) -> str:
    text: str = browser.run("document.getElementById('large-told').textContent")
    return text


POINT = """(([row, column]) => {
  const one = document.getElementById('large-picture'), b = one.getBoundingClientRect();
  const n = document.querySelectorAll('#large-rows bdi').length;
  one.dispatchEvent(new PointerEvent('pointermove', { bubbles: true,
    clientX: b.left + (column + .5) * b.width / n, clientY: b.top + (row + .5) * b.height / n }));
})"""


def test_a_cell_of_a_head_says_who_looks_at_whom(tmp_path: Path) -> None:
    found = explain("pico", "Мороз и солнце; день чудесный! " * 5, use_cpu=True)
    assert found.attentions is not None
    names, last = [one.token.text for one in found.tokens], len(found.tokens) - 1
    assert last > 45
    with opened(tmp_path / "page.html", found, width=400) as browser:
        browser.click("#head-grid .head-row:nth-of-type(4) button:nth-of-type(2)")  # 3.2
        check_labels(browser)
        weights = found.attentions[2, 1]
        best = int(weights[last].argmax())
        assert told(browser).startswith(
            f"«{names[last]}» ({last + 1}) looks most at «{names[best]}» ({best + 1}): "
        )
        for row, column in ((7, 3), (20, 20), (last, 0)):
            browser.run(f"{POINT}([{row}, {column}])")
            said, _, share = told(browser).partition("): ")
            assert said == f"«{names[row]}» ({row + 1}) looks at «{names[column]}» ({column + 1}"
            assert float(share.split()[0]) == pytest.approx(weights[row, column], abs=0.008)
            shown = browser.run(
                "[...document.querySelectorAll('.labelled .now')].map((one) => one.title)"
            )
            assert shown == [f"{column + 1}: {names[column]}", f"{row + 1}: {names[row]}"]
        browser.run(f"{POINT}([3, 9])")
        assert told(browser).endswith("it comes later.")
        browser.run("document.getElementById('large').focus()")
        for key in ("ArrowDown", "ArrowLeft"):
            browser.press(key)
        assert told(browser).startswith(f"«{names[4]}» (5) can't look at «{names[8]}» (9)")
        assert browser.run("document.scrollingElement.scrollWidth <= innerWidth")
        assert browser.complaints == []


# By hand: 8, 4, 2, 1 and 996 of a millionth or less, which are 0.000623 together.
WEIGHTS = np.array([8, 4, 2, 1, *(1e-6 * (1 - np.arange(996) / 1330))])
OFF = {"temperature": 1, "top-k": 0, "top-p": 1, "min-p": 0}
NOTHING = "off, cuts nothing"


@pytest.fixture(scope="module")
def dials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = explain("pico", "Мороз", use_cpu=True)
    logits = np.log(WEIGHTS).astype(np.float32)
    found = replace(found, distribution=replace(found.distribution, logits=logits))
    with opened(tmp_path_factory.mktemp("dials") / "page.html", found) as browser:
        yield browser
        assert browser.complaints == []


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({}, {"temperature": "1 changes nothing", "top-k": NOTHING, "top-p": NOTHING,
              "kept": "This keeps 1,000 of 1,000 tokens, which hold 100% of the probability; "
              "entropy: 1.64 bits."}),
        ({"top-k": 3}, {"top-k": "keeps 3 of 1,000 tokens, which hold 93.3%",
                        "kept": "This keeps 3 of 1,000 tokens, which hold 93.3% of the "
                        "probability; entropy: 1.38 bits."}),
        ({"top-k": 50}, {"top-k": "keeps 50 of 1,000 tokens, which hold >99.9%: "
                         "it hardly changes anything"}),
        # Each looks at what those before it left.
        ({"top-k": 3, "min-p": 0.2}, {"min-p": "cuts nothing: all 3 tokens pass"}),
        ({"top-k": 3, "min-p": 0.3}, {"min-p": "keeps 2 of 3 tokens, which hold 85.7%",
                                      "kept": "This keeps 2 of 1,000 tokens, which hold 80.0% of "
                                      "the probability; entropy: 0.92 bits."}),
        ({"top-p": 0.5}, {"top-p": "keeps 1 of 1,000 tokens, which hold 53.3%"}),
        # Squares: 64, 16, 4, 1.
        (
            {"temperature": 0.5},
            {"temperature": "the likeliest, before any is cut: 53.3% → 75.3%", "top-k": NOTHING},
        ),
        ({"temperature": 0.5, "top-k": 2}, {"top-k": "keeps 2 of 1,000 tokens, which hold 94.1%"}),
    ],
)  # fmt: skip
def test_each_slider_says_what_it_does(
    dials: Browser, moved: dict[str, float], said: dict[str, str]
) -> None:
    for name, value in {**OFF, **moved}.items():
        dials.run(
            f"(() => {{ const one = document.getElementById('{name}'); one.value = {value};"
            " one.dispatchEvent(new Event('input')); })()"
        )
    for name, sentence in said.items():
        shown = "kept" if name == "kept" else f"{name}-told"
        assert dials.run(f"document.getElementById('{shown}').textContent") == sentence
    rows = dials.run(
        "[...document.querySelectorAll('#bars tr')].slice(0, 4).map((row) =>"
        " [row.className, row.cells[1].textContent, row.cells[2].textContent])"
    )
    own = ["53.3%", "26.7%", "13.3%", "6.67%"]  # as the model has it stays beside what is now
    assert [row[1] for row in rows] == own
    if moved == {"top-k": 3, "min-p": 0.3}:  # the one that cut it first is named
        assert [[row[0], row[2]] for row in rows] == [
            ["", "66.7%"], ["", "33.3%"], ["cut", "cut by min-p"], ["cut", "cut by top-k"],
        ]  # fmt: skip
