"""Generation with an adapter's layers in the model is that with the merged model."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gptft.api import generate
from gptft.models.load import load_for_training
from tests.models.adapter_maker import make_adapter, make_base

ADAPTERS: dict[str, dict[str, Any]] = {
    "layers": {"target_modules": "all-linear"},
    "embeddings": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 9, 260]},
    "lora of embeddings": {"target_modules": ["embed_tokens", "lm_head"]},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "dola": {},
    "beam": {},
    "early_exit": {"assistant_early_exit": 1},
    "contrastive": {},
    "contrastive_decoding": {"amateur_layers": 1},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("base") / "qwen3"
    return make_base("qwen3", folder, tokenizer_of=tiny_model_dir)


@pytest.fixture(scope="module", params=ADAPTERS)
def both(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """An adapter, and the model that it makes of its base."""
    folder = tmp_path_factory.mktemp("both")
    adapter = make_adapter(base, folder / "adapter", **ADAPTERS[request.param])
    shutil.copytree(base, folder / "merged")
    load_for_training(str(adapter)).save_pretrained(folder / "merged")
    return adapter, folder / "merged"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_adapted_model_generates_what_the_merged_one_does(
    both: tuple[Path, Path], strategy: str
) -> None:
    given = {"strategy": strategy, "max_new_tokens": 8, **STRATEGIES[strategy]}
    applied, merged = (generate(str(model), ["Буря"], given=given).texts[0] for model in both)
    assert applied.new_ids == merged.new_ids
    assert applied.new_ids
