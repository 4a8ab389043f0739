"""`gptft eval` as a person runs it: tables, JSON, the page, standard input, mistakes."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

import gptft
from gptft.analysis.evaluate.view import evaluation_view
from gptft.cli import main
from tests.conftest import SENTENCES
from tests.report.test_html import Walker

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model_dir: Path
) -> Cli:
    """Runs `gptft eval` in this process: (exit code, stdout, stderr)."""

    def run(*args: str, stdin: str = "", models: Sequence[str] = (str(tiny_model_dir),)) -> Any:
        monkeypatch.setattr(sys, "argv", ["gptft", "eval", *models, "--cpu", *args])
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", typed)
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


def blocks(out: str) -> dict[str, list[list[str]]]:
    """The tables that were printed, by their titles."""
    found: dict[str, list[list[str]]] = {}
    for line in out.rstrip("\n").split("\n"):
        if line.startswith("# "):
            rows = found[line.removeprefix("# ")] = []
        else:
            rows.append(line.split("\t"))
    return found


def test_the_tables_of_one_model(cli: Cli, corpus_dir: Path) -> None:
    code, out, err = cli("--data", str(corpus_dir))
    num_bytes = sum(len(text.encode()) for text in SENTENCES)
    assert (code, "the 95% interval over 1,000 draws of the documents" in err) == (0, True)
    tables = blocks(out)
    heads, row = tables[f"4 documents of 4 sources, {num_bytes:,} bytes"]
    assert heads[:3] == ["model", "bits a byte", "bits a character"]
    assert " to " in row[1]
    assert {name.rpartition("/")[2] for name, *_ in tables["Bits a byte by source"][1:]} == {
        "0.txt", "1.txt", "2.txt", "3.txt"
    }  # fmt: skip
    bits = [float(value) for *_, value in tables["Bits a byte by source"][1:]]
    assert bits == sorted(bits, reverse=True)
    [hardest] = [rows for title, rows in tables.items() if title.startswith("Hardest for")]
    assert len(hardest) == 5
    assert len(tables["Calibration"]) == 11


def test_models_side_by_side(cli: Cli, corpus_dir: Path, tiny_model_dir: Path) -> None:
    names = (str(tiny_model_dir), "pico")
    code, out, err = cli("-d", str(corpus_dir), "--hardest", "1", models=names)
    assert code == 0
    heads, first, second = next(iter(blocks(out).values()))
    assert heads[2] == "less the first"
    assert first[2] == "-"
    assert second[2].startswith("-")
    assert "compare their bits a byte" in err
    assert len([line for line in out.split("\n") if line.startswith("# Hardest for")]) == 2
    assert "Calibration" not in out


def test_json_has_everything_and_the_sums_agree(cli: Cli, corpus_dir: Path) -> None:
    code, out, _ = cli("-d", str(corpus_dir), "--json", "--window", "20", "--stride", "5", "--eos")
    assert code == 0
    found = json.loads(out)
    [model] = found["models"]
    assert (model["window"], model["stride"], model["context"]) == (20, 5, 64)
    assert (found["num_documents"], found["counts_eos"]) == (4, True)
    for group in ("documents", "sources"):
        nats = sum(row["loss"] * row["num_tokens"] for row in model[group])
        assert nats == pytest.approx(model["loss"] * model["num_tokens"])
    low, high = model["interval"]
    assert low < model["bits_per_byte"] < high
    assert sum(it["num_tokens"] for it in model["calibration"]["bins"]) == model["num_tokens"]
    assert model["hardest"][0]["text"] in SENTENCES


def test_standard_input_and_a_file_together(cli: Cli, corpus_dir: Path) -> None:
    sets = ["--set", "data.document_separator='|'"]
    data = ["-d", "-", "-d", str(corpus_dir / "0.txt")]
    code, out, _ = cli(*data, *sets, "--json", stdin="Мороз|\n|и солнце\n|")
    assert code == 0
    [model] = json.loads(out)["models"]
    places = [(Path(row["source"]).name, row["line"]) for row in model["documents"]]
    assert places == [("0.txt", 1), ("standard input", 1), ("standard input", 2)]
    assert model["documents"][1]["num_bytes"] == len("Мороз".encode())


def test_one_document_has_no_interval(cli: Cli, corpus_dir: Path) -> None:
    code, out, err = cli("-d", str(corpus_dir / "0.txt"))
    assert code == 0
    assert "One document is no sample, so there is no interval." in err
    assert [*blocks(out)][1:] == ["Calibration"]
    assert " to " not in next(iter(blocks(out).values()))[1][1]


def test_nothing_is_wider_than_a_terminal(corpus_dir: Path, tiny_model_dir: Path) -> None:
    names = [str(tiny_model_dir)] * 2
    for models in (names[:1], names):
        found = gptft.evaluate(models, [str(corpus_dir)], use_cpu=True)
        for width in (60, 100, 200):
            drawn = io.StringIO()
            Console(file=drawn, force_terminal=True, width=width).print(evaluation_view(found))
            plain = re.sub("\x1b\\[[0-9;]*m", "", drawn.getvalue())
            assert max(map(cell_len, plain.split("\n"))) <= width
            assert "Hardest for" in plain


def test_the_page_shows_all_of_it_and_runs_nothing(
    cli: Cli, tmp_path: Path, tiny_model_dir: Path
) -> None:
    text = tmp_path / "<b>evil.txt"
    text.write_text("<script>alert(1)</script>|Мороз & солнце\x1b[2J", encoding="utf-8")
    shutil.copytree(tiny_model_dir, other := tmp_path / "model")
    page = tmp_path / "page.html"
    code, _, err = cli(
        "-d", str(text), "--set", "data.document_separator='|'", "--html", str(page),
        models=(str(tiny_model_dir), str(other)),
    )  # fmt: skip
    assert (code, f"Written: {page}" in err) == (0, True)
    html = page.read_text(encoding="utf-8")
    assert "script" not in Walker(html).tags
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>evil" not in html
    assert "\x1b" not in html
    assert html.count("Calibration</h2>") == 1
    assert "0.000 (" in html  # the same model twice
    code, _, err = cli("-d", str(text), "--html", str(text))
    assert (code, "read by this very command" in err) == (2, True)


MISTAKES = {
    "no data": ([], "There is no text to measure on"),
    "empty name": (["-d", ""], "There is no text"),
    "no such file": (["-d", "nowhere.txt"], "nowhere.txt"),
    "nothing typed": (["-d", "-"], "Standard input holds no text"),
    "window": (["-d", "a.txt", "--window", "999"], "--window 999 is more than the context of"),
    "zero": (["-d", "a.txt", "--window", "0"], "--window"),
    "setting": (["-d", "a.txt", "--set", "data.text_feld=x"], "data.text_feld"),
    "no value": (["-d", "a.txt", "--set", "data.encoding"], "data.encoding"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_line(cli: Cli, in_tmp: Path, name: str) -> None:
    Path("a.txt").write_text("Мороз", encoding="utf-8")
    args, message = MISTAKES[name]
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
