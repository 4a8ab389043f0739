"""The page of an explanation: whole, asking for nothing, its numbers those it was given."""

import base64
import hashlib
import json
import re
import shutil
import string
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gptft import api
from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import Explanation
from gptft.report.explain import explain_html, page_words

PROMPT = 'Мороз <b>и</b> "солнце"'
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


def test_both_languages_say_the_same_things() -> None:
    english, russian = page_words("en"), page_words("ru")
    assert [*english] == [*russian]
    for key, text in english.items():
        fields = [
            {name for _, name, _, _ in string.Formatter().parse(one) if name}
            for one in (text, russian[key])
        ]
        assert fields[0] == fields[1], key
        assert text.strip()
        assert any("а" <= letter <= "я" for letter in russian[key]) or key.startswith("part_feed")


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
        "temperature",
        "top-k",
        "top-p",
        "min-p",
    }
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
    assert "Not shown: X gives no attention weights." in short


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
