"""Pages of explanations in a real browser, narrow and wide, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gptft.analysis.explain.explain import explain
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
    browser.click("#large-row button:nth-of-type(2)")
    assert browser.run("document.querySelectorAll('#large-row .asking').length") == 1
    shares = browser.run(
        "[...document.querySelectorAll('#large-row small')]"
        ".reduce((sum, one) => sum + +one.textContent.replace(',', '.'), 0)"
    )
    assert shares == pytest.approx(1.0, abs=0.03)  # of two digits each
    total = browser.run("document.querySelector('#opened-row .sum .number').textContent")
    assert float(total.replace(",", ".")) == pytest.approx(1.0, abs=0.002)
