"""The promise of the first page: the tuned model knows the poem, and the base model doesn't."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def gptft(*args: str, folder: Path) -> dict[str, object]:
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
    answer: dict[str, object] = json.loads(done.stdout)
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


@pytest.mark.slow
def test_quickstart_teaches_the_poems_in_under_90_seconds(tmp_path: Path):
    run = tmp_path / "run"
    answer = gptft(
        "train",
        "configs/quickstart.yaml",
        "--set",
        f"training.output_dir={run}",
        folder=tmp_path,
    )
    assert answer["seconds"] < 90
    assert answer["train"]["perplexity_after"] < answer["train"]["perplexity_before"] / 10
    assert len(answer["samples"]) >= 2
    for sample in answer["samples"]:
        expected = next_line(sample["prompt"])
        assert words(sample["after"])[: len(expected)] == expected
        assert words(sample["before"])[: len(expected)] != expected


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
