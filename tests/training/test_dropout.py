"""Dropout in training: none unless asked for, and the saved config says what the base's says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from gptft.api import load_config
from gptft.errors import ConfigError
from gptft.models.dropout import rates, set_dropout
from gptft.models.load import load_for_training
from gptft.models.new import new_model
from tests.training.conftest import Run

NAMES = ("attn_pdrop", "embd_pdrop", "resid_pdrop")


def drops(model: torch.nn.Module) -> set[float]:
    return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}


@pytest.mark.parametrize(
    ("dropout", "overrides", "expected"),
    [
        (None, {}, {0.1}),
        (0.0, {}, {0.0}),
        (0.3, {}, {0.3}),
        (0.0, {"attn_pdrop": 0.2}, {0.0, 0.2}),
    ],
)
def test_a_base_is_loaded_with_it(
    tiny_model_dir: Path,
    tmp_path: Path,
    dropout: float | None,
    overrides: dict[str, float],
    expected: set[float],
):
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | dict.fromkeys(NAMES, 0.1)))
    model = load_for_training(str(base), dropout=dropout, config_overrides=overrides)
    assert drops(model) == expected


def test_a_new_model_has_it_where_its_sizes_say_nothing():
    sizes = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "resid_pdrop": 0.2}
    settings: dict[str, Any] = {"vocab_size": 300, "eos_token_id": 0, "seed": 0}
    assert drops(new_model(sizes, dropout=0.0, **settings)) == {0.0, 0.2}
    assert drops(new_model(sizes, **settings)) == {0.1, 0.2}


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "opt", "falcon", "bloom", "llama"])
def test_every_rate_is_found_whatever_it_is_called(model_type: str):
    config = AutoConfig.for_model(model_type)
    set_dropout(config, 0.25)
    found = rates(config.to_dict())
    assert found
    assert set(found.values()) == {0.25}
    named = {name for name in config.to_dict() if "drop" in name}
    others = ("layerdrop", "classifier", "summary")
    assert {n for n in named if not any(word in n for word in others)} == set(found)


@pytest.mark.parametrize(("model", "kept"), [({}, 0.1), ({"dropout": 0.3}, 0.2)])
def test_the_model_of_a_run_has_the_rates_of_its_base(
    run: Run, tiny_model_dir: Path, tmp_path: Path, model: dict[str, Any], kept: float
):
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | dict.fromkeys(NAMES, kept)))
    result = run(model={"name": str(base), **model}, training={"max_steps": 1})
    saved = json.loads((result.run_dir / "model" / "config.json").read_text())
    assert [saved[name] for name in NAMES] == [kept] * 3


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, "none", float("nan")])
def test_what_is_no_rate_is_refused(tmp_path: Path, value: Any):
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{dropout: {value}}}\ndata: {{train: x}}\n")
    with pytest.raises(ConfigError, match=r"model\.dropout"):
        load_config(path)
