"""Pages of explanations in a real browser, narrow and wide, light and dark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import (
    ChangedToken,
    Explanation,
    Passage,
    TrainingMatch,
)
from gptft.analysis.explain.values import NamedToken
from gptft.analysis.span_places import Place
from gptft.report.explain import explain_html
from gptft.text.scripts import PageLanguage
from tests.architectures.models import save_tiny_model
from tests.browser import CHROMIUM, Browser
from tests.report.contrast import check_contrast

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


# What scrolls sideways and can't take the focus, so that no key scrolls it.
STUCK = """
[...document.querySelectorAll("body *")].filter((one) =>
  ["auto", "scroll"].includes(getComputedStyle(one).overflowX) &&
  one.scrollWidth > one.clientWidth && one.tabIndex < 0 &&
  !one.querySelector("button, a, [tabindex]")
).map((one) => `${one.tagName}.${one.className}: ${one.scrollWidth - one.clientWidth}`)
"""
# Of labels that stay while their table scrolls: what is seen at the middle of each.
ABOVE = """
((selector, frame) => {
  const box = document.querySelector(frame), from = box.scrollLeft;
  const found = [];
  for (const share of [0, 0.5, 1]) {
    box.scrollLeft = share * (box.scrollWidth - box.clientWidth);
    for (const one of document.querySelectorAll(selector)) {
      one.scrollIntoView({ block: "center", inline: "nearest" });
      box.scrollLeft = share * (box.scrollWidth - box.clientWidth);
      const b = one.getBoundingClientRect();
      const seen = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2);
      if (!one.contains(seen)) found.push([share, one.textContent, seen?.outerHTML]);
    }
  }
  box.scrollLeft = from;
  return found;
})
"""


def check_scrolling(browser: Browser) -> None:
    """The page fits, and each part that scrolls does so by keys, too."""
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.run(STUCK) == []


def check_labels(browser: Browser) -> None:
    """Each row and column of the large picture has its token beside it, large enough to read."""
    labels = browser.run(
        "(() => { const box = (one) => { const b = one.getBoundingClientRect();"
        " return [b.left, b.right, b.top, b.bottom]; };"
        " const named = (id) => [...document.getElementById(id).children].map((one) =>"
        " [one.textContent, one.title === `${1 + [...one.parentNode.children].indexOf(one)}: ` +"
        " one.firstChild.data + (one.children.length ? ` (${one.lastChild.textContent})` : ''),"
        " parseFloat(getComputedStyle(one).fontSize), ...box(one)]);"
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
            assert label[1], label  # its title is its number and its text
            assert label[2] >= 11.5
            assert label[axis] == pytest.approx(start + number * size, abs=1)
            assert label[axis + 1] - label[axis] == pytest.approx(size, abs=0.5)


def test_it_fits_and_its_parts_move(browser: Browser) -> None:
    check_scrolling(browser)
    check_contrast(browser)
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


@pytest.fixture(scope="module")
def whole() -> Explanation:
    """All ten steps, of tokens that are long, odd and hard to tell apart."""
    found = explain("pico", f"... да… а\x0c{PROMPT}", base_name="pico", use_cpu=True)
    long = NamedToken(8190, "·" + "длинноеслово" * 4, b"")
    dots = [found.tokens[0].token, found.tokens[2].token]
    assert [one.text for one in dots] == ["...", "…"]
    named = (long, *dots, *found.distribution.tokens[3:])
    passage = Passage("до", "Мороз и солнце", "после", 4, Place(1, "x" * 60 + ".txt", 12_345))
    changed = tuple(ChangedToken(token, 0.00001, 0.99999) for token in (*dots, long))
    assert found.base is not None
    return replace(
        found, distribution=replace(found.distribution, tokens=named),
        training=TrainingMatch((passage,) * 3, "да", (("да", True),), 5, 9_999, None),
        base=replace(found.base, gained=changed, lost=changed),
    )  # fmt: skip


AXES: dict[PageLanguage, dict[str, list[str]]] = {
    "ru": {"#head-grid": ["слой ↓", "голова →"],
           "#large": ["кто спрашивает ↓", "на кого смотрит →"],
           "#lens": ["слой ↓", "токен →"], "#parts": ["часть ↓"], "#base": ["слой ↓", "голова →"]},
    "en": {"#head-grid": ["layer ↓", "head →"], "#large": ["token that asks ↓", "it looks at →"],
           "#lens": ["layer ↓", "token →"], "#parts": ["part ↓"], "#base": ["layer ↓", "head →"]},
}  # fmt: skip


@pytest.mark.parametrize("lang", ["ru", "en"])
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (400, False), (400, True)]
)
def test_it_can_be_read(
    whole: Explanation, tmp_path: Path, lang: PageLanguage, width: int, *, dark: bool
) -> None:
    with opened(tmp_path / "page.html", whole, lang, width=width, dark=dark) as browser:
        assert browser.run("document.querySelectorAll('main > section').length") == 10
        lens = "document.querySelector('#lens .wide')"
        if width == 400:  # the answer is at the end
            assert browser.run(f"{lens}.scrollWidth > {lens}.clientWidth + 100")
        assert browser.run(f"{lens}.scrollLeft + {lens}.clientWidth >= {lens}.scrollWidth - 1")
        check_scrolling(browser)
        check_contrast(browser)
        for where, words in AXES[lang].items():
            text = browser.run(f"document.querySelector('{where}').innerText")
            assert all(word in text for word in words), where
        for labels, frame in (
            ("#lens tbody th, #lens .axes", "#lens .wide"),
            ("#large-rows bdi, #large .axes", "#large"),
            ("#base tbody th, #base .axes", "#base .wide"),
            (".head-layer", "#head-grid"),
        ):
            assert browser.run(f"document.querySelectorAll('{labels}').length") > 6
            assert browser.run(f"{ABOVE}('{labels}', '{frame}')") == []
        label = browser.run(
            "document.querySelector('#lens tbody th').getBoundingClientRect().width"
        )
        assert label <= 100
        cut = "(one) => one.getBoundingClientRect().height > 26"  # over two lines
        assert not browser.run(f"[...document.querySelectorAll('.wide .boxed')].some({cut})")
        rows = browser.run(
            "[...document.querySelectorAll('#bars th')].slice(1, 3).map((one) => one.innerText)"
        )
        assert rows == ["...3×U+002E", "…U+2026"]
        assert browser.complaints == []


@pytest.mark.parametrize("width", [400, 1280])
def test_the_grid_of_many_heads_has_its_numbers_where_they_belong(
    whole: Explanation, tmp_path: Path, width: int
) -> None:
    """Of 16 heads a layer, each number above its column, and layers beside their rows."""
    assert whole.attentions is not None
    attentions = np.tile(whole.attentions, (1, 8, 1, 1))
    heads = [replace(whole.heads[0], layer=n // 16, head=n % 16) for n in range(7 * 16)]
    found = replace(whole, attentions=attentions, heads=tuple(heads))
    with opened(tmp_path / "page.html", found, width=width) as browser:
        assert browser.run(f"{ABOVE}('.head-layer', '#head-grid')") == []
        middles = browser.run(
            "['.head-number', '.head-row:nth-of-type(5) .head'].map((one) =>"
            " [...document.querySelectorAll(one)].map((label) => {"
            " const b = label.getBoundingClientRect(); return b.left + b.width / 2; }))"
        )
        assert len(middles[0]) == 16
        assert middles[0] == pytest.approx(middles[1], abs=0.6)
        rows = browser.run(
            "[...document.querySelectorAll('.head-row')].map((row) => {"
            " const [a, b] = [row.firstChild, row.children[3]].map("
            " (one) => one.getBoundingClientRect());"
            " return a.top + a.height / 2 - b.top - b.height / 2; })"
        )
        assert rows == pytest.approx([0.0] * 8, abs=1.0)


def opened(path: Path, found: Explanation, lang: PageLanguage = "en", **window: int) -> Browser:
    """A browser with the page of an explanation."""
    path.write_text(explain_html(found, lang), encoding="utf-8")
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
    last = len(found.tokens) - 1
    assert last > 45
    with opened(tmp_path / "page.html", found, width=400) as browser:
        browser.click("#head-grid .head-row:nth-of-type(4) button:nth-of-type(2)")  # 3.2
        check_labels(browser)
        labels = "[...document.querySelectorAll('#large-rows bdi')]"
        names = browser.run(f"{labels}.map((one) => one.textContent)")
        titles = browser.run(f"{labels}.map((one) => one.title)")
        weights = found.attentions[2, 1]
        best = int(weights[last].argmax())
        assert told(browser).startswith(
            f"{names[last]} ({last + 1}) looks most at {names[best]} ({best + 1}): "
        )
        for row, column in ((7, 3), (20, 20), (last, 0)):
            browser.run(f"{POINT}([{row}, {column}])")
            said, _, share = told(browser).partition("): ")
            assert said == f"{names[row]} ({row + 1}) looks at {names[column]} ({column + 1}"
            assert float(share.split()[0]) == pytest.approx(weights[row, column], abs=0.008)
            shown = browser.run(
                "[...document.querySelectorAll('.labelled .now')].map((one) => one.title)"
            )
            assert shown == [titles[column], titles[row]]
        browser.run(f"{POINT}([3, 9])")
        assert told(browser).endswith("it comes later.")
        browser.run("document.getElementById('large').focus()")
        for key in ("ArrowDown", "ArrowLeft"):
            browser.press(key)
        assert told(browser).startswith(f"{names[4]} (5) can't look at {names[8]} (9)")
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
