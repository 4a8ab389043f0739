"""An adapter in fewer passes against peft's own forward, and what is left alone."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gptft.models.lora_forward import fuse_adapter
from tests.architectures.models import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of peft


def adapted(model_type: str, **settings: Any) -> tuple[PreTrainedModel, Any]:
    """A tiny model with an adapter whose second factor isn't zero."""
    torch.manual_seed(0)
    model = tiny_model(model_type).eval()
    is_conv = any(isinstance(one, Conv1D) for one in model.modules())
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules="all-linear",
        fan_in_fan_out=is_conv, **settings,
    )  # fmt: skip
    wrapped = get_peft_model(model, config)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model, wrapped


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        logits: torch.Tensor = model(
            input_ids=torch.randint(model.config.vocab_size, (2, 7))
        ).logits
    return logits


def run(model: PreTrainedModel, *, mixed: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (2, 7))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        logits = model(input_ids=ids, use_cache=False).logits.float()
    model.zero_grad()
    (logits**2).mean().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gpt_neox", "qwen2"])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}])
@pytest.mark.parametrize("mixed", [False, True])
def test_values_and_gradients_are_those_of_peft(
    model_type: str, settings: dict[str, Any], mixed: bool
):
    model, wrapped = adapted(model_type, **settings)
    expected, theirs = run(model, mixed=mixed)
    assert fuse_adapter(model) > 0
    logits, ours = run(model, mixed=mixed)
    near = 3e-2 if mixed else 1e-5
    torch.testing.assert_close(logits, expected, rtol=near, atol=near)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        size = float(theirs[name].abs().max())
        torch.testing.assert_close(
            gradient, theirs[name], rtol=near, atol=2 * near * max(size, 5e-3)
        )
    with wrapped.disable_adapter():
        plain = logits_of(model)
    assert float((plain - logits).abs().max()) > 1e-3
    wrapped.merge_adapter()
    merged = logits_of(model)
    wrapped.unmerge_adapter()
    back = logits_of(model)
    torch.testing.assert_close(merged, back, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}]
)
def test_what_stands_between_the_factors_stays(settings: dict[str, Any]):
    model, _ = adapted("llama", **settings)
    assert fuse_adapter(model) == 0


def test_a_base_in_another_dtype_stays():
    model, _ = adapted("llama")
    for name, weight in model.named_parameters():
        if "lora" not in name:
            weight.data = weight.data.to(torch.bfloat16)
    assert fuse_adapter(model) == 0
