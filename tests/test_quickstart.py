"""The promises of the first page: quickstart gets better at Pushkin, a poem is memorized."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gptft.api import load_config
from tests.conftest import PICO_RECIPES, ROOT, SHARED_CORPUS


def gptft(*args: str, folder: Path) -> dict[str, Any]:
    """Run `gptft ... --json` from the project's folder and return its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "gptft", *args, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        | {"GPTFT_CACHE": str(folder / "cache")},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def next_line(prompt: str) -> list[str]:
    """The words of the line that follows `prompt` in one of the poems."""
    for path in sorted((ROOT / "data" / "pushkin").glob("*.txt")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        if prompt in lines:
            return words(lines[lines.index(prompt) + 1])
    raise AssertionError(f"no poem has the line {prompt}")


def held_out_pushkin() -> list[Path]:
    """The verse by Pushkin that pico's recipes hold out."""
    data = load_config(PICO_RECIPES / "pretrain-pico.yaml").data
    assert data is not None
    assert isinstance(data.validation, list)
    names = [name for name in data.validation if "/poems/Pushkin/" in name]
    return [SHARED_CORPUS / name.removeprefix("corpus/ru-classics/") for name in names]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run that `make quickstart` makes, and its answer."""
    folder = tmp_path_factory.mktemp("quickstart")
    run = folder / "run"
    place = f"training.output_dir={run}"
    return run, gptft("train", "configs/quickstart.yaml", "--set", place, folder=folder)


@pytest.mark.slow
def test_quickstart_gets_better_at_poems_it_was_not_tuned_on(
    quickstart: tuple[Path, dict[str, Any]],
):
    _, answer = quickstart
    assert answer["seconds"] < 90
    assert answer["train"]["perplexity_after"] < 0.8 * answer["train"]["perplexity_before"]
    assert answer["validation"]["loss_after"] < answer["validation"]["loss_before"]
    for sample in answer["samples"]:
        assert sample["after"] != sample["before"]


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="no corpus beside the project")
def test_quickstart_gets_better_at_pushkin_in_general(
    quickstart: tuple[Path, dict[str, Any]], tmp_path: Path
):
    """Works that neither pico nor the tuned model has seen, in bits a byte."""
    run, _ = quickstart

    def bits(model: str) -> float:
        works = held_out_pushkin()
        scores = [gptft("score", model, "--file", str(work), folder=tmp_path) for work in works]
        return sum(s["bits"] for s in scores) / sum(s["num_bytes"] for s in scores)

    assert bits(str(run)) < bits("pico")


@pytest.mark.slow
def test_the_tuned_model_keeps_verse_lines(quickstart: tuple[Path, dict[str, Any]], tmp_path: Path):
    run, _ = quickstart
    drawn = ["--strategy", "nucleus", "--temperature", "0.8", "--seed", "1", "-n", "40"]
    prompt = ["-p", "Мороз и солнце; день чудесный!", "--max-new-tokens", "100"]
    texts: Any = gptft("generate", str(run), *prompt, *drawn, folder=tmp_path)
    lines = [
        words(line) for text in texts for line in text["continuation"].splitlines()[1:-1] if line
    ]
    assert len(lines) > 200
    assert sum(2 <= len(line) <= 8 for line in lines) > 0.9 * len(lines)


def test_one_poem_is_learned_by_the_recipe_for_a_text(tmp_path: Path):
    """`gptft train poem.txt` with no config at all."""
    run = tmp_path / "run"
    poem = ROOT / "data" / "pushkin" / "esli-zhizn-tebya-obmanet.txt"
    prompt = "Если жизнь тебя обманет,"
    answer = gptft(
        "train",
        str(poem),
        "--set",
        f"training.output_dir={run}",
        "--set",
        f"samples.prompts=['{prompt}']",
        folder=tmp_path,
    )
    assert answer["train"]["perplexity_after"] < 2
    [sample] = answer["samples"]
    expected = next_line(prompt)
    assert words(sample["after"])[: len(expected)] == expected
    assert words(sample["before"])[: len(expected)] != expected
    assert answer["is_memorized"]
    assert answer["steps"] < answer["planned_steps"]
    recital = answer["recital"]
    assert (recital["lines_before"], recital["lines_after"], recital["num_lines"]) == (0, 7, 7)
    [recited] = recital["texts"]
    assert (recited["prompt"] + recited["after"]).strip() == poem.read_text("utf-8").strip()
