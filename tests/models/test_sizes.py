"""Sizes in a config.json that its weights don't have are refused before a model is built."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models.check import model_problems
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.model_files import ModelFiles
from gptft.models.present import find_weights
from gptft.models.sizes import require_sizes

# Fields of GPT-2's config, the value, and what is said of both.
WRONG = {
    "a billion layers": ({"n_layer": 10**9}, "n_layer 1,000,000,000, and its weights have 2"),
    "many layers": ({"n_layer": 100_000}, "n_layer 100,000, and its weights have 2 layers"),
    "layers by another name": (
        {"num_hidden_layers": 10**7}, "num_hidden_layers 10,000,000, and its weights have 2 layers"
    ),
    "more than can be counted": ({"n_layer": 10**30}, "n_layer 31 digits long, and its weights"),
    "a vocabulary": ({"vocab_size": 10**12}, "vocab_size 1,000,000,000,000, and no side of its"),
    "a width": ({"n_embd": 10**8}, "n_embd 100,000,000, and no side of its weights is longer than"),
    "an inner width": ({"n_inner": 10**10}, "n_inner 10,000,000,000, and no side"),
    "heads": ({"n_head": 10**9}, "n_head 1,000,000,000, and no side"),
    "negative layers": ({"n_layer": -5}, "n_layer -5, and there is no model with less than 1"),
    "no layers": ({"n_layer": 0}, "n_layer 0, and there is no model with less than 1"),
    "no heads": ({"n_head": 0}, "n_head 0, and there is no model"),
    "a negative vocabulary": ({"vocab_size": -1}, "vocab_size -1, and there is no model"),
    "a negative width": ({"n_embd": -32}, "n_embd -32, and there is no model"),
    "layers of a part": (
        {"text_config": {"model_type": "llama", "num_hidden_layers": 10**9}},
        "num_hidden_layers 1,000,000,000, and its weights have 2 layers",
    ),
    "experts": ({"num_experts": 10**9}, "num_experts 1,000,000,000, and no side"),
}  # fmt: skip


def with_config(model: Path, folder: Path, changes: dict[str, Any]) -> Path:
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return folder


LOADING = {
    "to be checked": lambda name: find_weights(name),
    "to be trained": lambda name: load_for_training(name),
    "to be used": lambda name: load_for_inference(name, device=torch.device("cpu")),
}


@pytest.mark.parametrize("load", LOADING)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_size_that_weights_do_not_have_is_refused(
    tiny_model_dir: Path, tmp_path: Path, wrong: str, load: str
) -> None:
    changes, said = WRONG[wrong]
    folder = with_config(tiny_model_dir, tmp_path / "model", changes)
    begun = time.monotonic()
    with pytest.raises(ModelError) as caught:
        LOADING[load](str(folder))
    assert time.monotonic() - begun < 5
    assert f"{folder}: its config.json says {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_is_checked_for_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = with_config(tiny_model_dir, tmp_path / "model", {"n_layer": 10**9})
    for section in (
        ModelConfig(name=str(folder)),
        ModelConfig(name=str(tiny_model_dir), average_with=[{"name": str(folder)}]),
    ):
        ((_, message),) = model_problems(section, masks_documents=False)
        assert "its weights have 2 layers" in message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_positions": 10**12},  # no size of a weight in most models
        {"max_position_embeddings": 10**7, "sliding_window": 10**9, "rope_theta": 10**9},
        {"eos_token_id": 10**9, "num_parameters": 10**11, "total_steps": 10**9},
        {"ngram_vocab_size_base": 20_000_000, "hash_size": 10**8, "num_tables": 10**9},
        {"hidden_size": None, "vocab_size": "320", "n_layer": [2]},  # said when it is loaded
        {"text_config": [1]},
    ],
)
def test_what_is_no_size_is_not_looked_at(
    tiny_model_dir: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = with_config(tiny_model_dir, tmp_path / "model", changes)
    require_sizes(ModelFiles("model", folder))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]", (4).to_bytes(8, "little") + b"null"],
)
def test_weights_that_can_not_be_read_are_said_elsewhere(
    tiny_model_dir: Path, tmp_path: Path, content: bytes
) -> None:
    folder = with_config(tiny_model_dir, tmp_path / "model", {"n_layer": 10**9})
    (folder / "model.safetensors").write_bytes(content)
    require_sizes(ModelFiles("model", folder))


def test_the_bundled_model_is_right() -> None:
    assert find_weights("pico") is not None
