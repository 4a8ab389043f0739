"""Averages against sums by hand; what can't be averaged is named in a line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models.average import check_average
from gptft.models.load import load_for_training
from gptft.models.new import new_model


def perturbed(base: Path, folder: Path, *, seed: int) -> Path:
    """A copy of a model with noise on every weight."""
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(seed)
    noisy = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def changed(base: Path, folder: Path, **fields: Any) -> Path:
    """A copy of a model with other fields in its config.json."""
    shutil.copytree(base, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **fields}), encoding="utf-8")
    return folder


def averaged(model: Path, *, with_: list[Any]) -> ModelConfig:
    """A config's model section, as YAML gives it."""
    return ModelConfig.model_validate({"name": str(model), "average_with": with_})


def counted(*folders: Path, share: float = 1.0) -> list[tuple[str, float]]:
    """Models as load_for_training takes them."""
    return [(str(folder), share) for folder in folders]


@pytest.fixture
def three(tiny_model_dir: Path, tmp_path: Path) -> list[Path]:
    """Three models of one shape, no two weights alike."""
    return [perturbed(tiny_model_dir, tmp_path / f"m{seed}", seed=seed) for seed in (1, 2, 3)]


def test_each_weight_is_the_mean_and_one_named_twice_counts_for_both(three: list[Path]):
    first, second, third = three
    others = [*counted(second, third), *counted(third, share=1.5)]
    model = load_for_training(str(first), average_with=others)
    stored = [load_file(folder / "model.safetensors") for folder in three]
    learned = dict(model.named_parameters())
    assert len(learned) == len(stored[0])
    for name, weight in learned.items():
        one, two, three_ = (tensors[name] for tensors in stored)
        torch.testing.assert_close(weight.detach(), (one + two + 2.5 * three_) / 4.5)
    tied = model.get_output_embeddings().weight
    assert tied.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    alone = load_for_training(str(first)).state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(first).state_dict().items():
        assert torch.equal(tensor, alone[name])


def test_the_mean_of_rounded_weights_is_rounded_once(three: list[Path]):
    model = load_for_training(str(three[0]), dtype="bfloat16", average_with=counted(*three[1:]))
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.bfloat16
        rounded = [load_file(at / "model.safetensors")[name].bfloat16().double() for at in three]
        mean = sum(rounded, torch.zeros(())) / 3
        assert torch.equal(weight.detach(), mean.float().bfloat16())


def test_a_model_with_padding_of_its_own_is_averaged_too(tmp_path: Path):
    sizes = {
        "model_type": "llama",
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
    }
    for seed in (1, 2):
        made = new_model(sizes, vocab_size=20, eos_token_id=3, seed=seed)
        made.save_pretrained(tmp_path / str(seed))
    model = load_for_training(str(tmp_path / "1"), average_with=counted(tmp_path / "2"))
    stored = [load_file(tmp_path / name / "model.safetensors") for name in ("1", "2")]
    name = "model.embed_tokens.weight"
    torch.testing.assert_close(
        model.state_dict()[name][3], (stored[0][name][3] + stored[1][name][3]) / 2
    )
    assert model.get_input_embeddings().padding_idx is None


def test_a_checkpoint_without_a_tokenizer_can_be_averaged(three: list[Path]):
    for path in three[1].glob("*token*"):
        path.unlink()
    check_average(averaged(three[0], with_=[str(three[1])]))
    load_for_training(str(three[0]), average_with=counted(three[1]))


def test_the_models_of_a_glob_are_averaged_each_with_its_weight(three: list[Path]):
    pattern = str(three[0].parent / "m[23]")
    model = averaged(three[0], with_=[{"name": pattern, "weight": 0.5}])
    check_average(model)
    others = [(one.name, one.weight) for one in model.average_with]
    globbed = load_for_training(str(three[0]), average_with=others)
    named = load_for_training(str(three[0]), average_with=counted(*three[1:], share=0.5))
    for one, other in zip(globbed.parameters(), named.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_head": 4}, "n_head is 4 there and 2 here"),
        ({"n_layer": 1}, "n_layer is 1 there and 2 here"),
        ({"activation_function": "relu"}, "activation_function is relu there and gelu_new here"),
        ({"model_type": "gpt_neo"}, "can't be averaged with"),
    ],
)
def test_models_of_another_kind_are_refused(
    tiny_model_dir: Path, tmp_path: Path, fields: dict[str, Any], said: str
):
    other = changed(tiny_model_dir, tmp_path / "other", **fields)
    with pytest.raises(ModelError, match=said) as caught:
        load_for_training(str(tiny_model_dir), average_with=counted(other))
    assert "\n" not in str(caught.value)
    assert "Leave it out of model.average_with." in str(caught.value)


def test_dropout_and_other_words_of_a_config_are_no_difference(
    tiny_model_dir: Path, tmp_path: Path
):
    other = changed(tiny_model_dir, tmp_path / "other", resid_pdrop=0.3, eos_token_id=5, x="y")
    with pytest.raises(ModelError, match="x is y there and None here"):
        load_for_training(str(tiny_model_dir), average_with=counted(other))
    shutil.rmtree(other)
    changed(tiny_model_dir, other, resid_pdrop=0.3, eos_token_id=5)
    load_for_training(str(tiny_model_dir), average_with=counted(other))


def test_another_tokenizer_is_refused_before_any_text_is_read(tiny_model_dir: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    path = other / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["!"], vocabulary['"'] = vocabulary['"'], vocabulary["!"]
    path.write_text(json.dumps(content), encoding="utf-8")
    model = averaged(tiny_model_dir, with_=[str(tiny_model_dir), str(other)])
    with pytest.raises(ModelError, match=r"another one, '.' is id \d+ there and id \d+ here\."):
        check_average(model)
    missing = averaged(tiny_model_dir, with_=[str(tmp_path / "missing")])
    with pytest.raises(ModelError, match="no such folder"):
        check_average(missing)
