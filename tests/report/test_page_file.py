"""A page a user names takes no other file's place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gptft.cli import main
from gptft.errors import ConfigError, RunError
from gptft.report.page_file import check_page_path
from gptft.report.render import render

POEM = "Буря мглою небо кроет"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli(word, ...)` is the command line: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["gptft", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def page(cli: Cli, tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    code, _, err = cli("tokenize", POEM, "--html", str(path))
    assert (code, err) == (0, f"Written: {path}\n")
    return path


def test_a_page_of_gptft_is_replaced(cli: Cli, page: Path):
    before = page.read_text(encoding="utf-8")
    assert cli("tokenize", "другой текст", "--html", str(page))[0] == 0
    assert page.read_text(encoding="utf-8") != before


@pytest.mark.parametrize("place", ["runs/a/report.html", "report.html", "link.html"])
def test_the_report_of_a_run_is_not_replaced(cli: Cli, page: Path, tmp_path: Path, place: str):
    """It is a page of gptft, and nothing else tells what the run came to."""
    run = tmp_path / ("runs/a" if "link" in place else Path(place).parent)
    run.mkdir(parents=True, exist_ok=True)
    page.rename(run / "report.html")
    path = tmp_path / place
    if "link" in place:
        path.symlink_to(run / "report.html")
    assert cli("tokenize", POEM, "--html", str(path))[0] == 0  # of no run
    before = path.read_bytes()
    (run / "run.json").write_text("{}", encoding="utf-8")
    code, out, err = cli("tokenize", "другой текст", "--html", str(path))
    assert (code, out, path.read_bytes()) == (2, "", before)
    assert "isn't overwritten: it is the report of a run. Name another file, or insist" in err
    assert cli("tokenize", "другой текст", "--html", str(path), "--overwrite")[0] == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", ["poem.txt", "run.json", "notes.html", "empty.html", "tokens.bin"])
def test_another_file_stays_as_it_is(cli: Cli, tmp_path: Path, name: str):
    path = tmp_path / name
    content = b"" if "empty" in name else b"<html><p>mine</p></html>\xff"
    path.write_bytes(content)
    code, out, err = cli("tokenize", POEM, "--html", str(path))
    assert (code, out) == (2, "")
    assert f"{name} isn't overwritten: it isn't a page of gptft. Name another file, or" in err
    assert path.read_bytes() == content
    assert cli("tokenize", POEM, "--html", str(path), "--overwrite")[0] == 0
    assert path.read_bytes().startswith(b"<!DOCTYPE html>")


def test_what_is_read_is_not_replaced_even_if_it_is_a_page(cli: Cli, page: Path, tmp_path: Path):
    before, link = page.read_bytes(), tmp_path / "link.html"
    link.symlink_to(page)
    for target in (page, link):
        code, _, err = cli("tokenize", "-f", str(page), "--html", str(target))
        assert code == 2
        assert "isn't overwritten: it is read by this very command" in err
    assert page.read_bytes() == before


def test_a_comparison_is_refused_before_anything_is_generated(
    cli: Cli, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptft.analysis.compare.run.compare", lambda *_, **__: pytest.fail("ran"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("fox\n", encoding="utf-8")
    words = ("generate", str(tiny_model_dir), "-f", str(prompts), "--compare", "greedy")
    code, _, err = cli(*words, "--html", str(prompts))
    assert code == 2
    assert "prompts.txt isn't overwritten: it is read by this very command" in err


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_regular_file_is_named(tmp_path: Path, kind: str):
    path = tmp_path / "page.html"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    with pytest.raises(ConfigError, match=r"it is (a folder|no regular file)"):
        check_page_path(path)


def test_a_name_no_file_can_have(tmp_path: Path):
    with pytest.raises(RunError, match="can't be written: File name too long"):
        check_page_path(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "template",
    [
        "report",
        "tokens",
        "comparison",
        "explain",
        "info",
        "score",
        "generation",
        "prediction",
        "novelty",
    ],
)
def test_every_page_bears_the_mark(template: str):
    templates = Path(render.__code__.co_filename).parent / "templates"
    source = (templates / f"{template}.html.j2").read_text(encoding="utf-8")
    assert '{% extends "page.html.j2" %}' in source
