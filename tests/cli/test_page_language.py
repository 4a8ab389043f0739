"""--lang of the commands that write a page, and what decides where it isn't given."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from tests.cli.test_novelty import run_dir, trained
from tests.report.conftest import MakeRun, make_run

__all__ = ["make_run", "run_dir", "trained"]

TEXTS = {"ru": "Мороз и солнце", "en": "The frost, the sun"}
COMMANDS = {
    "score": ("score", "MODEL", "TEXT"),
    "predict": ("predict", "MODEL", "-p", "TEXT"),
    "generate": ("generate", "MODEL", "-p", "TEXT", "--why", "--max-new-tokens", "2"),
    "compare": ("generate", "MODEL", "-p", "TEXT", "--compare", "greedy", "--max-new-tokens", "2"),
    "explain": ("explain", "MODEL", "-p", "TEXT"),
}


def language_of_page(page: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--html", str(page), "--overwrite"])
    assert result.exit_code == 0, result.output
    return page.read_text(encoding="utf-8").partition('<html lang="')[2][:2]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_page_is_in_the_language_of_its_text_unless_one_chooses(
    tiny_model_dir: Path, tmp_path: Path, command: str, text: str
) -> None:
    fill = {"MODEL": str(tiny_model_dir), "TEXT": TEXTS[text]}
    words = [fill.get(word, word) for word in COMMANDS[command]] + ["--cpu"]
    page = tmp_path / "page.html"
    assert language_of_page(page, *words) == text
    for lang in TEXTS:
        assert language_of_page(page, *words, "--lang", lang) == lang


def test_a_page_of_copies_is_in_the_language_of_the_texts(run_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for lang, text in TEXTS.items():
        written = tmp_path / "written.txt"
        written.write_text(text, encoding="utf-8")
        words = ("novelty", str(run_dir), "-f", str(written))
        assert language_of_page(page, *words) == lang
        assert language_of_page(page, *words, "--lang", "ru") == "ru"


def test_a_page_of_an_evaluation_is_in_the_language_of_the_documents(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    page, text = tmp_path / "page.html", tmp_path / "text.txt"
    for lang, content in TEXTS.items():
        text.write_text(content, encoding="utf-8")
        words = ("eval", str(tiny_model_dir), "--data", str(text), "--cpu")
        assert language_of_page(page, *words) == lang
        assert language_of_page(page, *words, "--lang", "ru") == "ru"


def test_a_page_of_runs_is_in_the_language_of_their_prompts(
    make_run: MakeRun, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    for lang, text in TEXTS.items():
        samples = [{"step": 0, "prompt": text, "continuation": "."}]
        runs = [str(make_run(f"{lang}{n}", samples=samples)) for n in range(2)]
        assert language_of_page(page, "runs", "compare", *runs) == lang
        assert language_of_page(page, "runs", "compare", *runs, "--lang", "en") == "en"


def test_a_report_shown_again_is_in_the_language_of_the_runs_texts(
    make_run: MakeRun, tmp_path: Path
) -> None:
    page, run = tmp_path / "page.html", str(make_run())
    assert language_of_page(page, "runs", "show", run) == "ru"
    for lang in TEXTS:
        assert language_of_page(page, "runs", "show", run, "--lang", lang) == lang


@pytest.mark.parametrize(("given", "lang"), [([], "ru"), (["--lang", "en"], "en")])
def test_training_writes_its_report_in_a_language(
    tiny_model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    lang: str,
) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    text, run = tmp_path / "стихи.txt", tmp_path / "run"
    text.write_text("Буря мглою небо кроет,\nВихри снежные крутя.\n", encoding="utf-8")
    words = ["train", str(text), "--model", str(tiny_model_dir), "--max-steps", "1", "--use-cpu"]
    words += ["--out", str(run), *given]

    def language_after(*more: str) -> str:
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, (result.output, result.exception)
        return (run / "report.html").read_text("utf-8").partition('<html lang="')[2][:2]

    assert language_after() == lang
    (run / "report.html").unlink()  # as a kill in the last moment leaves it
    assert language_after("--resume") == lang
