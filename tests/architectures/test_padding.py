"""Prompts of different lengths share a batch only where the model leaves padding out of account."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gptft import api
from gptft.decoding.cached_model import new_cache
from gptft.decoding.loaded_model import READ_PADDING
from gptft.decoding.recite import recite
from tests.architectures.models import NOT_TRIED, save_tiny_model, tiny_model

PROMPTS = ("Мороз", "Буря мглою небо кроет", "день чудесный", "x")


@pytest.mark.parametrize("strategy", ["greedy", "nucleus"])
@pytest.mark.parametrize("model_type", ["rwkv", "bart", "xlstm", "recurrent_gemma", "mamba", "opt"])
def test_texts_of_a_batch_are_those_of_each_prompt(
    model_type: str, strategy: str, tmp_path: Path
) -> None:
    save_tiny_model(model_type, tmp_path)
    given = {"strategy": strategy, "max_new_tokens": 6, "min_new_tokens": 6, "seed": 1}

    def texts(*prompts: str) -> list[str]:
        found = api.generate(str(tmp_path), prompts, given=given, use_cpu=True)
        return [text.continuation for text in found.texts]

    assert texts(*PROMPTS) == [text for prompt in PROMPTS for text in texts(prompt)]


@pytest.mark.parametrize("model_type", ["rwkv", "llama"])
def test_what_is_recited_is_what_each_beginning_goes_on_with(
    model_type: str, tmp_path: Path
) -> None:
    save_tiny_model(model_type, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompts, lengths = [[5, 9, 30, 44, 7], [8], [60, 61], [8, 9], [71]], [4, 6, 5, 5, 3]
    alone = [
        text
        for ids, length in zip(prompts, lengths, strict=True)
        for text in recite(model, tokenizer, [ids], [length])
    ]
    assert recite(model, tokenizer, prompts, lengths) == alone


@pytest.mark.parametrize("model_type", ["rwkv", "mamba"])
def test_several_texts_of_a_prompt_are_those_of_the_logits(model_type: str, tmp_path: Path) -> None:
    save_tiny_model(model_type, tmp_path)
    given = {"strategy": "temperature", "max_new_tokens": 5, "min_new_tokens": 5, "seed": 3}
    given["num_return_sequences"] = 3
    found = api.generate(str(tmp_path), PROMPTS[:1], given=given, use_cpu=True).texts
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    rows = torch.tensor([found[0].prompt_ids] * 3)
    torch.manual_seed(3)
    for _ in range(5):
        with torch.no_grad():
            logits = (
                model(rows, use_cache=False)
                .logits[:, -1]
                .index_fill(1, torch.tensor(0), -torch.inf)
            )
        rows = torch.cat([rows, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    assert [list(text.new_ids) for text in found] == rows[:, -5:].tolist()


@torch.no_grad()
def next_logits(model_type: str, *, padding: int) -> torch.Tensor:
    """Logits (6, V) of what `generate` puts behind a text behind so much padding."""
    model = tiny_model(model_type).eval()
    for weights in model.parameters():
        weights.mul_(3 if weights.dim() > 1 else 1)  # far from the same for whatever stands before
    ids = torch.randint(1, 300, (1, 5), generator=torch.Generator().manual_seed(1))
    ids = torch.nn.functional.pad(ids, (padding, 0))
    mask = torch.ones_like(ids)
    mask[:, :padding] = 0
    model.generation_config = GenerationConfig(
        max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None, output_logits=True,
        return_dict_in_generate=True, use_cache=new_cache(model) is not None,
    )  # fmt: skip
    return torch.cat(model.generate(ids, attention_mask=mask).logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - NOT_TRIED.keys() - {"xlm"})
)
def test_those_that_read_padding_are_known(model_type: str) -> None:
    """Each of transformers' architectures; logits of XLM as it is made are all the same."""
    alone, padded = (next_logits(model_type, padding=n) for n in (0, 4))
    differ = bool((alone - padded).abs().max() > 1e-3 * alone.std())
    assert differ == (model_type in READ_PADDING)
