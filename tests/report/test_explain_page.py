"""The page of an explanation: whole, asking for nothing, its numbers those it was given."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from gptft import api
from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import Explanation
from gptft.report.explain import explain_html
from gptft.runs.titles import ModelTitle

PROMPT = 'Мороз <b>и</b> "солнце"'
DIALS = ("temperature", "top-k", "top-p", "min-p")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.fixture(scope="module")
def found(tiny_model_dir: Path) -> Explanation:
    return explain(str(tiny_model_dir), PROMPT, base_name=str(tiny_model_dir), use_cpu=True)


@pytest.fixture(scope="module")
def page(found: Explanation) -> str:
    return explain_html(found, "ru")


def embedded(page: str) -> dict[str, object]:
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert content is not None
    return json.loads(content[1])


def test_it_runs_its_own_script_and_asks_for_nothing(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy in page
    assert not re.search(r"(src|href)=[\"'](?!#)|url\(|https?://|@import", page)
    assert not re.search(r"<[^>]+ on\w+=", page)  # no handler in an attribute, which is refused
    assert '<html lang="ru">' in page
    assert "<b>" not in page.replace("<bdi", "")
    assert len(page.encode()) < 5_000_000


def test_ids_are_there_once_and_all_that_the_script_asks_for(page: str) -> None:
    body = page[: page.index("<script>")]
    ids = re.findall(r' id="([^"]+)"', body)
    assert len(ids) == len({*ids})
    script = page[page.index("<script>") :]
    asked = {*re.findall(r'byId\("([^"]+)"\)', script)}
    asked |= {
        "opened-head",
        "opened-asks",
        "opened-looks",
        *DIALS,
    }
    asked |= {f"{dial}-{part}" for dial in DIALS for part in ("value", "told")}
    asked |= {"large-rows", "large-columns"}
    optional = {"opened-fetched"}
    assert asked - optional - {*ids} == set()


def test_what_the_script_draws_are_the_numbers(page: str, found: Explanation) -> None:
    data = embedded(page)
    logits = np.frombuffer(base64.b64decode(data["logits"]), "<f4")
    np.testing.assert_array_equal(logits, found.distribution.logits)
    assert found.opened is not None
    assert found.attentions is not None
    query = np.frombuffer(base64.b64decode(data["opened"]["query"]), "<f4")
    np.testing.assert_array_equal(query.reshape(found.opened.query.shape), found.opened.query)
    layers, heads, length = data["attentions"]["shape"]
    packed = np.frombuffer(base64.b64decode(data["attentions"]["bytes"]), np.uint8)
    packed = packed.reshape(layers, heads, -1) / 255
    row, column = 3, 1
    np.testing.assert_allclose(
        packed[:, :, row * (row + 1) // 2 + column], found.attentions[:, :, row, column],
        atol=0.5 / 255 + 1e-6,
    )  # fmt: skip
    assert data["tokens"] == [one.token.text for one in found.tokens]
    assert length == len(found.tokens)


def test_each_step_is_there_and_what_is_missing_is_said(found: Explanation, page: str) -> None:
    titles = re.findall(r"<h2>(\d+)\. ", page)
    assert titles == ["1", "2", "3", "4", "5", "6", "7", "8", "9"]  # no run: no training text
    bare = Explanation(
        **{
            **vars(found),
            "attentions": None, "opened": None, "heads": (), "lens": None, "attribution": None,
            "base": None, "missing": ("X gives no attention weights.",),
        }
    )  # fmt: skip
    short = explain_html(bare, "en")
    assert re.findall(r"<h2>(\d+)\. ", short) == ["1", "2", "3", "8"]
    assert "4 views, from the text" in short
    assert "9 взглядов: от текста" in page
    assert "Not shown: X gives no attention weights." in short


@pytest.mark.parametrize(
    ("title", "prompt", "english", "russian"),
    [
        (
            ModelTitle("openai-community/gpt2"), "The cat",
            "How openai-community/gpt2 picks the token after «The cat»",
            "Как openai-community/gpt2 выбирает токен после «The cat»",
        ),
        (
            ModelTitle("pushkin", "pico"), "Мороз\nи солнце",
            "How the run pushkin, tuned from pico, picks the token after «Мороз и солнце»",
            "Как модель pushkin, дообученная из pico, выбирает токен после «Мороз и солнце»",
        ),
        (
            ModelTitle("<b>"), "x" * 61,
            f"How <b> picks the token after «{'x' * 59}…»",
            f"Как <b> выбирает токен после «{'x' * 59}…»",
        ),
    ],
)  # fmt: skip
def test_its_title_is_the_model_s_own_name_and_the_prompt(
    found: Explanation, title: ModelTitle, prompt: str, english: str, russian: str
) -> None:
    for lang, expected in (("en", english), ("ru", russian)):
        page = explain_html(replace(found, title=title, prompt=prompt), lang)
        (head,) = re.findall(r"<title>(.*?)</title>", page)
        (seen,) = re.findall(r"<h1>(.*?)</h1>", page)
        assert unescape(head) == unescape(seen) == expected
        # What the title cuts stands whole below it.
        (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page)
        assert (prompt in unescape(lead)) == (len(prompt) > 60)


def test_layers_are_read_downward_everywhere(found: Explanation, page: str) -> None:
    assert found.base is not None
    layers = [f"слой {n}" for n in range(1, found.num_layers + 1)]
    rows = []
    for section in ("lens", "parts", "base"):
        part = page[page.index(f'<section id="{section}"') :]
        part = part[: part.index("\n</section>\n<section id") if section != "base" else None]
        for table in re.findall(r"<table.*?</table>", part, re.S):
            named = re.findall(r"<tbody>.*?</tbody>", table, re.S)[0]
            names = [unescape(one) for one in re.findall(r'<th scope="row">(.*?)</th>', named)]
            if layers[0] in names or any(name.startswith("внимание") for name in names):
                rows.append((section, names, table))
    assert [section for section, *_ in rows].count("base") >= 2
    assert {section for section, *_ in rows} == {"lens", "parts", "base"}
    for _, names, table in rows:
        numbers = [int(name.split()[-1]) for name in names if name[-1].isdigit()]
        assert numbers == sorted(numbers)
        assert not any(name.startswith("эмбеддинги") for name in names[1:])  # it is on top
        assert "↓" in table.split("<tbody>")[0]  # and the axis says so


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1.5, "top_k": 12},
        {"top_p": 0.6},
        {"min_p": 0.3, "temperature": 2.0},
        {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_the_sliders_do_what_predict_does(
    tiny_model_dir: Path, page: str, tmp_path: Path, settings: dict[str, float]
) -> None:
    for name, value in settings.items():
        slider = f'id="{name.replace("_", "-")}"'
        page = re.sub(rf'({slider}[^>]*value=")[^"]*', rf"\g<1>{value}", page)
        page = re.sub(rf'({slider}[^>]*step=")[^"]*', r"\g<1>any", page)
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
             "--enable-logging=stderr", path.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr  # no error of the script, nothing refused
    drawn = [float(one) for one in re.findall(r'data-probability="([^"]+)"', done.stdout)]
    given = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, **settings}
    predicted = api.predict(
        str(tiny_model_dir), PROMPT, config=api.generation_config(None),
        given={**given, "seed": 1}, top=20, use_cpu=True,
    ).steps[0]  # fmt: skip
    expected = sorted((row.final_probability for row in predicted.rows), reverse=True)[:20]
    assert len(drawn) == 20
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
