"""`gptft info`, from the command line to what is printed and written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from tests.architectures.models import tiny_model
from tests.architectures.parts import parts_by_class

RUNNER = CliRunner()


def test_it_is_drawn_and_told() -> None:
    shown = RUNNER.invoke(app, ["info", "pico", "--text", "Мороз и солнце"])
    assert shown.exit_code == 0
    assert "┌─ 7 × block ──" in shown.stdout
    assert "in all\t7,548,672\t100%\n" in shown.stdout
    assert "your text\t5 tokens: 5.20 bytes a token, 1.67 tokens a word\n" in shown.stdout
    assert "GPT-3\t174,604,259,328\t96\t12,288\t96\t2,048\t50,257\t300 B tokens" in shown.stdout


def test_a_file_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("Мороз и солнце".encode("cp1251") * 40)
    shown = RUNNER.invoke(app, ["info", "pico", "--file", str(path), "--json"])
    assert json.loads(shown.stdout)["text"]["num_words"] == 81


def test_json_has_everything() -> None:
    found = json.loads(RUNNER.invoke(app, ["info", "pico", "--json"]).stdout)
    assert found["parameters"]["parts"]["embeddings"] == 8192 * 256
    assert found["anatomy"]["positions"] == "rotary"
    assert found["text"] is None
    assert [one["name"] for one in found["known_models"]][:2] == ["GPT-1", "GPT-2"]
    assert "section 4.1" in found["known_models"][0]["source"]


def test_two_models_side_by_side() -> None:
    shown = RUNNER.invoke(app, ["info", "pico", "--compare", "pico"]).stdout
    assert "attention\t1,835,008\t1,835,008\n" in shown
    found = json.loads(RUNNER.invoke(app, ["info", "pico", "--compare", "pico", "--json"]).stdout)
    assert found["comparison"][0] == found["comparison"][1]


@pytest.mark.parametrize("other", [[], ["--compare", "pico"]])
def test_a_page_loads_nothing_and_replaces_only_pages(tmp_path: Path, other: list[str]) -> None:
    path = tmp_path / "page.html"
    command = ["info", "pico", *other, "--html", str(path)]
    assert RUNNER.invoke(app, command).exit_code == 0
    page = path.read_text(encoding="utf-8")
    assert "7 × block" in page
    assert "7,548,672" in page
    assert not [word for word in ("<script", "http://", "src=", "@import") if word in page]
    assert RUNNER.invoke(app, command).exit_code == 0  # its own page
    path.write_text("a letter")
    assert RUNNER.invoke(app, command).exit_code == 1
    assert path.read_text() == "a letter"
    assert RUNNER.invoke(app, [*command, "--overwrite"]).exit_code == 0


def test_a_name_cant_become_markup(tmp_path: Path) -> None:
    model = tmp_path / "<b>x"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "<script>alert(1)</script>"}')
    path = tmp_path / "page.html"
    shown = RUNNER.invoke(app, ["info", str(model), "--html", str(path)])
    assert shown.exit_code == 0
    assert "<b>" not in path.read_text()
    assert "<script" not in path.read_text()


def test_it_is_told_within_a_second() -> None:
    """Of the processor's time: others may need it, too."""
    began = time.process_time()
    assert RUNNER.invoke(app, ["info", "pico"]).exit_code == 0
    assert time.process_time() - began < 1


# The command, the processor's time that its process took from its start, and what it imported.
TIMED = """
import json, sys, time
from gptft.cli import main
sys.argv = ["gptft", *sys.argv[1:]]
try:
    main()
finally:
    sys.__stderr__.write("\\n" + json.dumps([time.process_time(), sorted(sys.modules)]))
"""
TWELVE = (
    "gpt2", "llama", "gpt_neox", "qwen3", "mixtral", "gemma3_text", "mamba", "opt", "bloom",
    "falcon", "deepseek_v3", "minimax",
)  # fmt: skip


@pytest.mark.parametrize("kind", TWELVE)
def test_headers_alone_tell_the_parameters_by_part_within_a_second(
    kind: str, tmp_path: Path
) -> None:
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    command = [sys.executable, "-c", TIMED, "info", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    seconds, modules = json.loads(done.stderr.splitlines()[-1])
    counted = json.loads(done.stdout)["parameters"]
    assert counted["total"] == sum(one.numel() for one in model.parameters())
    assert counted["parts"] == parts_by_class(model)
    assert not {"torch", "transformers", "numpy"} & set(modules)
    assert seconds < 1
