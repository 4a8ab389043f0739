"""Layers that keep less for their gradients: the results are the stock ones, and how much less."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, TrainingArguments
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from gptft.training.gated_mlp import use_lean_mlps
from gptft.training.lean_layers import use_lean_layers
from gptft.training.rms_norm import use_lean_norms

_SIZES = {
    "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 90, "max_position_embeddings": 64,
    "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0,
}  # fmt: skip
# How many of their layers are changed: norms and MLPs. Gemma's norms add one to their weight, a
# Phi-3's gate and up are one layer, and a GPT-NeoX has neither.
_CHANGED = {
    "llama": (5, 2), "mistral": (5, 2), "qwen2": (5, 2), "qwen3": (9, 2), "smollm3": (5, 2),
    "olmo2": (9, 2), "granite": (5, 2), "gemma2": (0, 2), "phi3": (5, 0), "gpt_neox": (0, 0),
}  # fmt: skip


def _model(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **_SIZES)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:  # a norm whose weight is one would hide a mistake
                weight.add_(0.3 * torch.randn_like(weight))
            if "norm" not in name and weight.dim() == 2:
                weight.mul_(4)
    return model.train()


def _step(model: PreTrainedModel, *, mixed: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(2 * 24).remainder(83).view(2, 24)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    trained = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    return loss.detach(), trained


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("model_type", _CHANGED)
def test_loss_and_gradients_are_the_stock_models(model_type: str, mixed: bool) -> None:
    stock = _model(model_type)
    lean = deepcopy(stock)
    assert (use_lean_norms(lean), use_lean_mlps(lean)) == _CHANGED[model_type]
    expected, gradients = _step(stock, mixed=mixed)
    loss, found = _step(lean, mixed=mixed)
    tolerance = 3e-2 if mixed else 2e-5
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)
    assert [*found] == [*gradients]
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=tolerance * max(scale, 1e-3), msg=name
        )


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
def test_an_mlp_gives_the_same_bits(mixed: bool) -> None:
    stock = _model("llama")
    lean = deepcopy(stock)
    use_lean_mlps(lean)
    (expected, gradients), (loss, found) = _step(stock, mixed=mixed), _step(lean, mixed=mixed)
    assert torch.equal(loss, expected)
    assert all(torch.equal(found[name], gradients[name]) for name in gradients)


def test_an_mlp_keeps_half() -> None:
    stock = _model("llama")
    lean = deepcopy(stock)
    use_lean_mlps(lean)
    size = 2 * 24 * _SIZES["intermediate_size"] * 4
    assert _kept(stock) - _kept(lean) == _SIZES["num_hidden_layers"] * 2 * size


def test_a_norm_keeps_its_input_and_a_number_a_row() -> None:
    stock = _model("llama")
    lean = deepcopy(stock)
    num_norms = use_lean_norms(lean)
    saved = _kept(stock) - _kept(lean)
    assert saved == num_norms * 2 * 24 * _SIZES["hidden_size"] * 4


def _kept(model: PreTrainedModel) -> int:
    """Bytes that autograd keeps of one forward pass, each memory once, without the weights."""
    seen: dict[int, torch.Tensor] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor  # which keeps its place from reuse
        return tensor

    ids = torch.arange(2 * 24).remainder(83).view(2, 24)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        model(input_ids=ids, labels=ids, use_cache=False)
    return sum(t.untyped_storage().nbytes() for place, t in seen.items() if place not in own)


def test_frozen_weights_get_no_gradient() -> None:
    stock = _model("llama").requires_grad_(False)
    for name, weight in stock.named_parameters():
        weight.requires_grad_("q_proj" in name or "up_proj" in name)
    lean = deepcopy(stock)
    use_lean_norms(lean)
    use_lean_mlps(lean)
    _, gradients = _step(stock, mixed=False)
    _, found = _step(lean, mixed=False)
    assert [*found] == [*gradients]
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


class _OtherRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + 1e-3


class _LimitedMLP(LlamaMLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp(max=0.1)


class _MLPOfTwo(LlamaMLP):
    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x) * scale


class _Projection(nn.Module):
    """A layer that doesn't say how wide its input is."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


class _MLPOfOthers(LlamaMLP):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.gate_proj = _Projection(self.gate_proj)


@pytest.mark.parametrize("kind", [_LimitedMLP, _MLPOfTwo, _MLPOfOthers])
def test_an_mlp_that_does_more_stays(kind: Any) -> None:
    config = AutoConfig.for_model("llama", **_SIZES)
    assert use_lean_mlps(nn.ModuleList([kind(config)])) == 0


def test_a_norm_that_does_more_stays() -> None:
    assert use_lean_norms(nn.ModuleList([_OtherRMSNorm(8)])) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_of_other_floats_does_what_it_did(dtype: torch.dtype) -> None:
    norm = LlamaRMSNorm(8)
    x = torch.linspace(-3, 3, 24).view(3, 8).to(dtype)
    expected = norm(x)
    assert use_lean_norms(nn.ModuleList([norm])) == 1
    assert torch.equal(norm(x), expected)


def test_hooks_keep_a_layer_as_it_is() -> None:
    model = _model("llama")
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm | LlamaMLP):
            module.register_forward_hook(lambda *args: None)
    assert use_lean_norms(model) == use_lean_mlps(model) == 0


@pytest.mark.parametrize("setting", ["gradient_checkpointing", "torch_compile"])
def test_mlps_stay_where_their_tensors_are_made_again(setting: str, tmp_path: Path) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    setattr(args, setting, True)
    model = _model("llama")
    use_lean_layers(model, args)
    changed = {type(one) for one in model.modules() if "forward" in vars(one)}
    assert changed == ({LlamaRMSNorm} if setting == "gradient_checkpointing" else set())
