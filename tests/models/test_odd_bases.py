"""Bases whose files disagree, hold no numbers, or are of a kind that can't be trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from gptft.api import check_config
from gptft.api.generation import generate
from gptft.errors import ConfigError, ModelError
from gptft.models.load import load_for_inference, load_for_training
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "base"))


def change_json(path: Path, **fields: object) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in {**stored, **fields}.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def config_of(folder: Path) -> Path:
    """A config that trains the model on one sentence."""
    text = folder.parent / "text.txt"
    text.write_text("Мороз и солнце; день чудесный!\n" * 40, encoding="utf-8")
    path = folder.parent / "config.yaml"
    path.write_text(
        f"model: {{name: {folder}}}\ndata: {{train: {text}, block_size: 16}}\n"
        "training: {max_steps: 1, use_cpu: true}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("load", [load_for_training, lambda m: load_for_inference(m, device=CPU)])
class TestUnused:
    def said(self, load: Callable[[str], Any], folder: Path, capsys: Any) -> str:
        transformers_logging.set_verbosity_error()  # as every command does
        transformers_logging.disable_progress_bar()
        load(str(folder))
        return " ".join(capsys.readouterr().err.split())

    def test_layers_that_the_config_has_no_place_for_are_said(
        self, load: Callable[[str], Any], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_json(folder / "config.json", n_layer=1)
        said = self.said(load, folder, capsys)
        # Of 12; the library takes c_attn.bias for the buffer attn.bias (transformers 5.23).
        assert "11 weights of its file not used, transformer.h.1.attn.c_attn.weight" in said

    def test_a_part_of_another_kind_is_said(
        self, load: Callable[[str], Any], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change_weights(folder, lambda weights: weights.update({"score.weight": torch.zeros(2, 32)}))
        assert "1 weight of its file not used, score.weight" in self.said(load, folder, capsys)

    def test_what_older_files_hold_and_newer_models_compute_is_not(
        self, load: Callable[[str], Any], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def add(weights: dict[str, torch.Tensor]) -> None:
            for layer in range(2):
                weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64)
                weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

        change_weights(folder, add)
        assert self.said(load, folder, capsys) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.h.1.ln_1.bias"])
def test_weights_that_are_no_numbers_are_refused(folder: Path, name: str, value: float) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[[0, -1]] = value

    change_weights(folder, spoil)
    for load in (load_for_training, lambda m: load_for_inference(m, device=CPU)):
        with pytest.raises(ModelError, match=rf"{name} holds 2 values.*NaN or infinite") as caught:
            load(str(folder))
        assert "\n" not in str(caught.value)


def test_so_are_numbers_that_are_too_large_for_the_dtype(folder: Path) -> None:
    change_weights(folder, lambda weights: weights["transformer.wpe.weight"].fill_(1e5))
    assert load_for_training(str(folder))
    with pytest.raises(ModelError, match="in float16"):
        load_for_training(str(folder), dtype="float16")


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "made-up", None, 5])
def test_quantized_weights_are_not_trained(folder: Path, method: object) -> None:
    stored = {"quant_method": method, "bits": 4} if method is not None else {}
    change_json(folder / "config.json", quantization_config=stored)
    with pytest.raises(ModelError, match="is quantized"):
        load_for_training(str(folder))
    with pytest.raises(ConfigError, match=r"is quantized .* can't be trained"):
        check_config(config_of(folder))


def test_a_method_of_quantization_that_is_not_known_is_named(folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "gptqq"})
    with pytest.raises(ModelError, match=r"'gptqq', which transformers .*Did you mean gptq"):
        load_for_inference(str(folder), device=CPU)


@pytest.mark.parametrize("added", [True, False])
def test_an_empty_vocabulary_is_refused(folder: Path, added: bool) -> None:
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["model"].update(vocab={}, merges=[])
    stored["added_tokens"] = stored["added_tokens"] if added else []
    path.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ModelError, match="has an empty vocabulary"):
        load_tokenizer(str(folder))
    with pytest.raises(ConfigError, match="has an empty vocabulary"):
        check_config(config_of(folder))


class TestStrayEos:
    @pytest.fixture(params=[320, 50_256, 2**31, 2**40, [999, 1000]])
    def stray(self, request: pytest.FixtureRequest, folder: Path) -> Path:
        """A model whose config.json names an EOS that isn't there, and maybe its tokenizer one."""
        change_json(folder / "config.json", eos_token_id=request.param)
        (folder / "generation_config.json").unlink(missing_ok=True)
        return folder

    def test_the_tokenizers_own_is_used_and_that_is_said(self, stray: Path) -> None:
        tokenizer = load_tokenizer(str(stray))
        assert tokenizer.require_eos() == 0
        checked = check_config(config_of(stray))
        assert any("The tokenizer's own EOS is used" in said for said in checked.notices)

    def test_without_one_it_is_refused(self, stray: Path) -> None:
        change_json(stray / "tokenizer_config.json", eos_token=None)
        with pytest.raises(ModelError, match=r"config\.json says id .* ids\), so the end"):
            load_tokenizer(str(stray)).require_eos()
        with pytest.raises(ConfigError, match=r"config\.json says id"):
            check_config(config_of(stray))

    def test_generation_says_what_ends_a_text(self, stray: Path) -> None:
        said: list[str] = []
        generate(str(stray), ["Мороз"], notify=said.append, given={"max_new_tokens": 2})
        assert any("says that EOS is id" in one and "id 0" in one for one in said)


@pytest.mark.parametrize("eos", [0, [0], [0, 999], -1, None])
def test_an_eos_that_is_there_is_not_spoken_of(folder: Path, eos: object) -> None:
    change_json(folder / "config.json", eos_token_id=eos)
    assert load_tokenizer(str(folder)).stray_eos_notice is None
    assert not any("EOS" in said for said in check_config(config_of(folder)).notices)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["nonsense", "", "float", "torch.bfloat16", "float8_e4m3fn"])
def test_a_type_that_torch_does_not_have_is_told_of_the_config(
    folder: Path, name: str, value: str
) -> None:
    change_json(folder / "config.json", dtype=None, torch_dtype=None)
    change_json(folder / "config.json", **{name: value})
    if value not in ("nonsense", ""):
        assert check_config(config_of(folder))
        return
    said = rf"config\.json: {name} is .*, and torch has no such type"
    for load in (load_for_training, load_auto_tokenizer):
        with pytest.raises(ModelError, match=said):
            load(str(folder))
    with pytest.raises(ConfigError, match=said):
        check_config(config_of(folder))
