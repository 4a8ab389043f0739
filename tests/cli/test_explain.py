"""`gptft explain`, as a person calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from tests.cli.test_novelty import trained  # noqa: F401  (a fixture)

PROMPT = "Мороз и солнце"


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *words, "--cpu"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_in_short_it_says_what_comes_and_why(tiny_model_dir: Path) -> None:
    code, said = run(str(tiny_model_dir), "-p", PROMPT)
    assert code == 0
    for words in (
        "the likeliest of 320",
        "is ahead for good",
        "What adds most to the logit",
        "heads look at",
    ):
        assert words in said
    assert "\t" in said
    assert "█" not in said  # bars are for a terminal


def test_json_has_all_of_it(tiny_model_dir: Path) -> None:
    code, said = run(str(tiny_model_dir), "-p", PROMPT, "--json")
    assert code == 0
    found = json.loads(said)
    assert len(found["attentions"]) == found["num_layers"] == 2
    assert sum(part["value"] for part in found["attribution"]["parts"]) == pytest.approx(
        found["attribution"]["logit"], abs=1e-4
    )
    assert found["base"] is None
    assert found["training"] is None


def test_a_page_is_written_in_the_prompts_language(tiny_model_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for words, lang in ((PROMPT, "ru"), ("The cat", "en")):
        code, said = run(str(tiny_model_dir), "-p", words, "--html", str(page))
        assert code == 0
        assert f"Written: {page}" in said
        assert f'<html lang="{lang}">' in page.read_text(encoding="utf-8")
    assert run(str(tiny_model_dir), "-p", "The cat", "--html", str(page), "--lang", "ru")[0] == 0
    assert '<html lang="ru">' in page.read_text(encoding="utf-8")


def test_a_file_that_is_no_page_stays(tiny_model_dir: Path, tmp_path: Path) -> None:
    poem = tmp_path / "poem.txt"
    poem.write_text("стих", encoding="utf-8")
    with pytest.raises(Exception, match="isn't overwritten"):
        run(str(tiny_model_dir), "-p", PROMPT, "--html", str(poem))
    assert poem.read_text(encoding="utf-8") == "стих"


def test_without_a_prompt_it_says_how(tiny_model_dir: Path) -> None:
    with pytest.raises(Exception, match="There is no prompt"):
        run(str(tiny_model_dir))


def test_a_run_is_shown_beside_its_base_and_its_text(
    trained: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(trained / "cache"))
    text = (trained / "texts" / "0.txt").read_text(encoding="utf-8")
    prompt, rest = text[: text.index("\n")], text[text.index("\n") :]
    page = tmp_path / "page.html"
    code, said = run(str(trained / "run"), "-p", prompt, "--html", str(page), "--json")
    assert code == 0
    found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert found["base"]["base"].endswith("tiny0")
    passage = found["training"]["passages"][0]
    assert passage["before"] + passage["shared"] == prompt
    assert len(passage["after"]) > 20
    assert rest.startswith(passage["after"])
    assert "<mark>" in page.read_text(encoding="utf-8")
    assert found["training"]["num_training_tokens"] > 100
