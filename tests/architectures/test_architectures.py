"""docs/models.md has a row for every causal architecture of the installed transformers."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.__main__ import CELLS, PAGE, read_table
from tests.architectures.models import NOT_TRIED, conversions
from tests.conftest import ROOT

# What most bases on the hub are, and some that are odd.
WIDESPREAD = (
    "bloom", "codegen", "cohere", "cohere2", "ctrl", "deepseek_v2", "deepseek_v3", "exaone4",
    "falcon", "gemma", "gemma2", "gemma3_text", "glm4", "gpt2", "gpt_bigcode", "gpt_neo",
    "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "jamba", "llama", "mamba", "mamba2",
    "minimax", "mistral", "mixtral", "moshi", "mpt", "nemotron", "olmo2", "openai-gpt", "opt",
    "phi", "phi3", "prophetnet", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next",
    "reformer", "rwkv", "smollm3", "stablelm", "starcoder2", "xglm", "xlnet", "xlstm",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Of each architecture in the table whether it is converted, what came of it, and a remark."""
    return read_table()


def test_none_is_missing_and_none_is_gone(rows: dict[str, list[str]]) -> None:
    assert rows.keys() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert f"transformers {version('transformers')}" in PAGE.read_text(encoding="utf-8")


def test_those_that_are_stored_otherwise_than_in_memory_are_marked(
    rows: dict[str, list[str]],
) -> None:
    """A conversion that transformers adds is one that `make architectures` hasn't tried yet."""
    marked = {name for name, (converted, *_) in rows.items() if converted}
    assert marked == set(conversions())


def test_each_is_like_stock_or_refused_or_not_tried_for_a_reason(
    rows: dict[str, list[str]],
) -> None:
    """A cell is "=", or says what was compared instead; a row without one says why."""
    for name, (_, *cells, remark) in rows.items():
        assert len(cells) == len(CELLS)
        if not any(cells):
            known = ("refused", f"not tried: {NOT_TRIED.get(name)}")
            assert remark.startswith(known), f"{name}: {remark}"
        assert all(cells) or not any(cells), f"{name}: {cells}"
    assert sum(cells == ["="] * len(CELLS) for _, *cells, _ in rows.values()) >= 40


@pytest.mark.slow
def test_widespread_architectures_are_trained_as_the_table_says(
    rows: dict[str, list[str]],
) -> None:
    """The harness itself, for which `make architectures` takes all there are."""
    command = [sys.executable, "-m", "tests.architectures", "--jobs", "2", *WIDESPREAD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    assert f"{len(WIDESPREAD)} of {len(WIDESPREAD)} architectures are right" in done.stdout
    assert all(any(rows[name][1:-1]) for name in WIDESPREAD)
