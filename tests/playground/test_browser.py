"""The page in a real browser: clicks, what is shown, every request it makes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]


@contextmanager
def serving(*options: str) -> Iterator[str]:
    words = [
        sys.executable,
        "-m",
        "gptft",
        "play",
        "pico",
        "--base",
        "pico",
        "--port",
        "0",
        "--cpu",
    ]
    words += options
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            yield next(line.split()[1] for line in served.stderr if "Open http://" in line)
        finally:
            served.terminate()
    assert served.returncode in (0, 143, -15)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving("--lang", "en") as address:
        yield address


@pytest.fixture(params=[(1280, False), (400, True)], ids=["wide", "narrow-dark"])
def browser(request: pytest.FixtureRequest, address: str) -> Iterator[Browser]:
    width, dark = request.param
    with Browser(width=width, dark=dark) as browser:
        browser.open(address)
        browser.wait("document.body.dataset.ready")
        yield browser
        assert browser.complaints == []
        assert browser.requests
        assert [one for one in browser.requests if not one.startswith(address)] == []


def text(browser: Browser, place: str) -> str:
    return str(browser.run(f"document.querySelector('{place}').textContent"))


WRITTEN = (
    "document.getElementById('stop').disabled"
    " && document.querySelectorAll('#text-model .token').length > 3"
)


NARROW = (
    "(() => { const p = document.getElementById('setting-top_p'); p.value = '0.1';"
    " p.dispatchEvent(new Event('input')); })()"
)
# What the page itself says: no text of a model, and nothing that is marked as English.
SAID = """(() => {
  const page = document.body.cloneNode(true);
  const quoted = "[lang=en], .written, .piece, bdi, select, noscript, textarea";
  page.querySelectorAll(quoted).forEach((one) => one.remove());
  const named = [...page.querySelectorAll("[title], [aria-label]")].flatMap((one) =>
    [one.title, one.getAttribute("aria-label") || ""]);
  return [document.title, page.textContent, ...named].join(" ");
})()"""


def test_writing_and_going_on_from_another_token(browser: Browser) -> None:
    browser.run("document.getElementById('strategy').value = 'greedy'")
    browser.run("document.getElementById('strategy').dispatchEvent(new Event('input'))")
    browser.click("#write")
    browser.wait(WRITTEN)
    first = text(browser, "#text-model")
    assert first.startswith("Мороз и солнце; день чудесный!")
    assert "greedy: max_new_tokens 60" in text(browser, "#told-model")
    browser.click("#text-model .token:nth-of-type(3)")
    browser.wait("document.querySelectorAll('#runners tr').length > 3")
    other = browser.run(
        "(() => { const b = [...document.querySelectorAll('#runners button')]"
        ".find((one) => !one.disabled); b.id = 'other'; return b.textContent; })()"
    )
    before = browser.run("document.getElementById('prompt').value")
    browser.click("#other")
    browser.wait(f"document.getElementById('prompt').value !== {before!r}")
    browser.wait(WRITTEN)
    prompt = browser.run("document.getElementById('prompt').value")
    assert prompt.startswith(before)
    assert prompt.endswith(other.replace("·", " ").replace("↵", "\n").lstrip("\u2423"))


def test_beside_its_base(browser: Browser) -> None:
    browser.click("#beside")
    browser.click("#write")
    browser.wait(WRITTEN + " && document.querySelectorAll('#text-base .token').length > 3")
    assert text(browser, "#text-model") == text(browser, "#text-base")  # one seed, one model


def test_settings_count(browser: Browser) -> None:
    browser.click("#tab-next")
    browser.wait("document.querySelectorAll('#next-rows tr').length > 3")
    before = text(browser, "#next-about")
    bars = browser.run(
        "[...document.querySelectorAll('#next-rows td.bar')].map((one) => [one.clientHeight,"
        " parseFloat(getComputedStyle(one, '::before').width) / one.clientWidth,"
        " parseFloat(one.parentNode.cells[1].textContent)])"
    )
    for height, share, chance in bars:  # one bar a token, as long as it is likely
        assert height < 45
        assert share == pytest.approx(chance / bars[0][2], abs=0.02)
    browser.run(NARROW)
    browser.wait(f"document.getElementById('next-about').textContent !== {before!r}")
    assert "top_p keeps" in text(browser, "#next-about")
    assert browser.run("document.querySelectorAll('#next-rows tr.cut').length > 0")


def test_a_mistake_is_said(browser: Browser) -> None:
    browser.run(
        "(() => { const p = document.getElementById('setting-top_p'); p.value = '7';"
        " p.dispatchEvent(new Event('input')); })()"
    )
    browser.click("#write")
    browser.wait("!document.getElementById('problem').hidden")
    assert "top_p" in text(browser, "#problem")
    browser.complaints = [one for one in browser.complaints if "400" not in one]


def test_stop(browser: Browser) -> None:
    browser.click("#write")
    browser.click("#stop")
    browser.wait("document.getElementById('stop').disabled")
    browser.click("#write")
    browser.wait(WRITTEN)


def test_explain_is_a_tab_and_keys_reach_it(browser: Browser) -> None:
    browser.run("document.getElementById('tab-text').focus()")
    for _ in range(2):
        browser.press("ArrowRight")
    browser.wait("document.activeElement.id === 'tab-explain'")
    inside = "document.getElementById('explained').contentDocument"
    browser.wait(f"{inside}.querySelectorAll('h2').length > 6")
    browser.wait(f"{inside}.querySelectorAll('#bars tr').length > 5")  # its script ran


def test_nothing_is_wider_than_the_screen(browser: Browser) -> None:
    browser.click("#write")
    browser.wait(WRITTEN)
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_all_that_is_said_is_russian_where_the_text_is() -> None:
    with serving() as address, Browser(width=400) as browser:
        browser.open(address)
        browser.wait("document.body.dataset.ready")
        assert browser.run("document.documentElement.lang") == "ru"
        assert text(browser, "#write") == "Писать"
        assert text(browser, "#about").startswith(
            "Рядом с ней: pico. Контекст, токенов: 1\u202f024."
        )
        browser.click("#beside")
        browser.click("#write")
        browser.wait(WRITTEN + " && document.querySelectorAll('#text-base .token').length > 3")
        assert "Чем ярче цвет" in text(browser, "#told-model")
        browser.click("#text-model .token:nth-of-type(3)")
        browser.wait("document.querySelectorAll('#runners tr').length > 3")
        assert text(browser, "#chosen h2").startswith("Вместо ")
        assert ", ранг " in text(browser, "#chosen-about")
        browser.click("#tab-next")
        browser.wait("document.querySelectorAll('#next-rows tr').length > 3")
        assert "top_p оставляет токенов" in text(browser, "#next-about")
        browser.run(NARROW)
        browser.wait("document.querySelector('#next-rows tr.cut')")
        assert "отсёк top_p" in text(browser, "#next-rows")
        said = browser.run(SAID)
        left = {word.lower() for word in re.findall("[A-Za-z_]{2,}", said)}
        names = {"pico", "gptft", "play", "seed", "max_new_tokens", "top_p"}
        assert left <= names
        browser.click("#tab-explain")
        inside = "document.getElementById('explained').contentDocument"
        browser.wait(f"{inside}.querySelectorAll('h2').length > 6")
        assert browser.run(f"{inside}.documentElement.lang") == "ru"
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints == []
