"""The page of a prediction: every step, its numbers those of the command's JSON."""

import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from gptft import api
from gptft.analysis.predict import Prediction
from gptft.files import as_json
from gptft.report.prediction import prediction_html
from gptft.terminal.words import probability
from tests.report.pages import check_page, rows_of

PROMPT = 'Буря <b>"&'


def predicted(model: Path, prompt: str = PROMPT, **given: object) -> Prediction:
    return api.predict(
        str(model), prompt, config=api.generation_config(None),
        given={"top_k": 5, "temperature": 0.7, "seed": 1}, use_cpu=True, **given,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("steps", [1, 3])
def test_every_number_is_that_of_json(tiny_model_dir: Path, steps: int):
    found = predicted(tiny_model_dir, steps=steps, top=8)
    page = prediction_html(found)
    check_page(page)
    values = as_json(found)
    assert len(re.findall(r'<section id="step\d+">', page)) == len(values["steps"])
    for number, step in enumerate(values["steps"], start=1):
        rows = rows_of(page, f"tokens{number}")
        assert len(rows) == len(step["rows"])
        for row, token in zip(rows, step["rows"], strict=True):
            assert row[0] == token["piece"]
            assert row[1:3] == [str(token["id"]), probability(token["probability"])]
            after = probability(token["final_probability"])
            assert row[4] == (f"cut by {token['cut_by']}" if token["cut_by"] else after)
        assert f"ntropy {step['entropy_bits']:.2f} bits" in page
        for kept in step["kept"]:
            assert f'<td class="number">{kept["num_after"]:,}</td>' in page


def test_bars_are_to_scale_for_both_models(tiny_model_dir: Path, tmp_path: Path):
    shutil.copytree(tiny_model_dir, tmp_path / "copy")
    found = predicted(tiny_model_dir, other=str(tmp_path / "copy"), top=4)
    page = prediction_html(found)
    check_page(page)
    sizes = [float(one) for one in re.findall(r"--size: ([\d.]+)%", page)]
    rows = found.steps[0].rows
    expected = [100 * row.probability / rows[0].probability for row in rows for _ in (1, 2)]
    assert sizes == pytest.approx(expected, rel=1e-3)
    assert page.count(">copy</th>") == 1


def test_the_text_is_no_markup_and_the_chosen_token_is_marked(tiny_model_dir: Path):
    found = predicted(tiny_model_dir, steps=2, prompt="<i>\x1b[31m سلام")
    page = prediction_html(found)
    check_page(page)
    assert "<i>" not in page
    assert "&lt;i&gt;␛[31m سلام" in page
    assert page.count("<mark>") == len(found.steps)
    assert page.count('<tr class="chosen">') == len(found.steps)


def test_without_settings_there_is_no_column_for_them(tiny_model_dir: Path):
    found = predicted(tiny_model_dir)
    bare = replace(found, steps=(replace(found.steps[0], kept=()),))
    page = prediction_html(bare)
    check_page(page)
    assert "after settings" not in page
    assert {len(row) for row in rows_of(page, "tokens1")} == {4}


def test_many_steps_are_cut_and_the_page_says_so(tiny_model_dir: Path):
    found = predicted(tiny_model_dir, top=10)
    page = prediction_html(replace(found, steps=found.steps * 700))
    assert len(page.encode()) < 5_000_000
    assert "Shown are the first 500 of 700 steps." in page


def test_a_token_that_completes_a_character_is_shown_after_its_text(tiny_model_dir: Path):
    found = predicted(tiny_model_dir)
    step = replace(found.steps[0], text="a⟨d0⟩", text_after="aд")
    page = prediction_html(replace(found, steps=(step, step)))
    label = next(row.text for row in step.rows if row.token_id == step.chosen)
    assert unescape(page).count(f"a⟨d0⟩<mark>{label}</mark>") == 2
