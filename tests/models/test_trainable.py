"""Models that transformers doesn't load as it saved them, refused before anything is trained."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from gptft.config.sections import ModelConfig
from gptft.errors import ModelError
from gptft.models.check import model_problems
from gptft.models.load import load_for_training
from gptft.models.new import new_model
from tests.architectures.models import save_tiny_model

WAY = r"would be lost\. Set model\.{}: {{pad_token_id: null}}"
SIZES = {"model_type": "youtu", "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48}


def test_a_base_that_loses_an_embedding_is_refused_and_trained_as_told(tmp_path: Path) -> None:
    """Stock loses the row of the padding token, and with the change that is told, it doesn't."""
    save_tiny_model("youtu", tmp_path)
    assert not AutoModelForCausalLM.from_pretrained(tmp_path).get_input_embeddings().weight[0].any()
    with pytest.raises(ModelError, match=WAY.format("config_overrides")):
        load_for_training(str(tmp_path))
    problems = model_problems(ModelConfig(name=str(tmp_path)), masks_documents=False)
    assert [path for path, _ in problems] == [("model", "config_overrides")]
    changes = {"pad_token_id": None}
    told = ModelConfig(name=str(tmp_path), config_overrides=changes)
    assert model_problems(told, masks_documents=False) == []
    model = load_for_training(str(tmp_path), config_overrides=changes)
    weight = model.get_input_embeddings().weight
    assert weight[0].any()
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.get_input_embeddings().weight, weight)


def test_a_new_model_of_that_kind_takes_no_padding() -> None:
    config = ModelConfig(from_scratch=SIZES)
    ((path, problem),) = model_problems(config, masks_documents=False)
    assert path == ("model", "from_scratch")
    with pytest.raises(ModelError, match=WAY.format("from_scratch")) as refused:
        new_model(SIZES, vocab_size=300, eos_token_id=0, seed=0)
    assert str(refused.value) == problem
    sizes = {**SIZES, "pad_token_id": None}
    assert model_problems(ModelConfig(from_scratch=sizes), masks_documents=False) == []
    assert new_model(sizes, vocab_size=300, eos_token_id=0, seed=0).config.pad_token_id is None


@pytest.mark.parametrize("kind", ["llama", "blt", "recurrent_gemma", "gpt2"])
def test_models_that_keep_it_are_not(kind: str, tmp_path: Path) -> None:
    save_tiny_model(kind, tmp_path)
    assert load_for_training(str(tmp_path)).get_input_embeddings().weight[0].any()
