"""What is recited is what plain transformers writes greedily, each text alone."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gptft.decoding.recite import recite
from tests.framed import GPT2, LLAMA, write_model

PROMPTS = ("Буря мглою", "The", "42 times, or", "Выпьем с горя; где же кружка?")
LENGTHS = (9, 30, 1, 17)


@pytest.fixture(params=[GPT2, LLAMA], ids=["bare", "bos"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", request.param)


def alone(model: PreTrainedModel, ids: list[int], length: int, *, eos: int) -> list[int]:
    """The most probable tokens one by one, by whole forward passes."""
    new: list[int] = []
    for _ in range(length):
        with torch.no_grad():
            token = int(model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if token == eos:
            break
        new.append(token)
    return new


def test_each_text_is_what_the_model_writes_alone(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    texts = recite(model, tokenizer, prompts, LENGTHS)
    for prompt, ids, length, text in zip(PROMPTS, prompts, LENGTHS, texts, strict=True):
        new = alone(model, ids, length, eos=tokenizer.eos_token_id)
        whole = tokenizer.decode([*ids, *new], skip_special_tokens=True)
        assert (prompt + text).rstrip("\ufffd") == whole.rstrip("\ufffd")


def test_a_long_beginning_and_a_long_text_fit_the_context_apart(tiny_model_dir: Path):
    """GPT-2 has no position beyond its 64; together the two rows would need 120."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    texts = recite(model, tokenizer, [[5] * 60, [6] * 4], [4, 60])
    assert len(texts) == 2


def test_nothing_to_recite_is_nothing(tiny_model_dir: Path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    assert recite(model, AutoTokenizer.from_pretrained(tiny_model_dir), [], []) == []
