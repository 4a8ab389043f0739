"""What is said of a run before its first step, by formulas."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM

from gptft.models.anatomy import read_anatomy
from gptft.models.training_memory import kept_of_token, logits_bytes
from gptft.training import forecast as module
from gptft.training.activations import use_fused_activations
from gptft.training.forecast import forecast_words, with_real
from gptft.training.gated_mlp import use_lean_mlps
from gptft.training.head import DeferredHead
from gptft.training.planning.kept import kept_of_batch
from gptft.training.rms_norm import use_lean_norms

_LLAMA = {
    "hidden_size": 64, "intermediate_size": 180, "num_attention_heads": 4, "vocab_size": 100,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_embd": 64, "n_head": 4, "vocab_size": 100, "n_positions": 64, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
    },
    "llama": {**_LLAMA, "num_key_value_heads": 4}, "mistral": _LLAMA, "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 16}, "smollm3": _LLAMA, "gpt_neox": _LLAMA,
}  # fmt: skip


def _kept(name: str, *, layers: int) -> int:
    """Bytes that autograd keeps of a token, counted on tensors without contents."""
    number = "n_layer" if name == "gpt2" else "num_hidden_layers"
    config = AutoConfig.for_model(name, **_SIZES[name], **{number: layers})
    mode = FakeTensorMode()
    with mode:
        model = AutoModelForCausalLM.from_config(config)
        use_fused_activations(model)
        use_lean_norms(model, is_tried=False)
        use_lean_mlps(model, is_tried=False)
    head = DeferredHead(model.get_output_embeddings())  # type: ignore[arg-type]
    found = kept_of_batch(
        model, mode, rows=2, length=32, is_isolated=False, autocast=None, head=head
    )
    return found.num_bytes // 64


@pytest.mark.parametrize("name", _SIZES)
def test_the_formula_is_what_autograd_keeps(name: str) -> None:
    number = "n_layer" if name == "gpt2" else "num_hidden_layers"
    stored = AutoConfig.for_model(name, **_SIZES[name], **{number: 2}).to_dict()
    counted = _kept(name, layers=3) - _kept(name, layers=1)
    assert kept_of_token(read_anatomy(stored, {})) == pytest.approx(counted, rel=0.06)


def test_other_architectures_have_no_formula() -> None:
    stored = AutoConfig.for_model("bloom", hidden_size=32, n_layer=2, n_head=4).to_dict()
    assert kept_of_token(read_anatomy(stored, {})) is None


def test_logits_are_those_of_so_many_tokens_at_once() -> None:
    anatomy = read_anatomy({"model_type": "gpt2", "vocab_size": 50_257}, {})
    assert logits_bytes(anatomy, num_tokens=10) == 10 * 4 * 50_257
    assert logits_bytes(anatomy, num_tokens=5_000) == 1024 * 4 * 50_257


def test_it_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"steps": 1, "epochs": 0.25, "tokens_a_step": 2048, "peak_bytes": None}
    assert forecast_words(found) == "1 step of 2,048 tokens, 0.25 epochs."
    monkeypatch.setattr(module, "free_memory", lambda: 10**9)
    monkeypatch.setattr(module, "resident_memory", lambda: 10**9)
    found = {"steps": 40, "epochs": 1.0, "tokens_a_step": 8, "peak_bytes": 1_500_000_000}
    assert forecast_words(found) == "40 steps of 8 tokens, 1 epoch; about 1.5 GB of memory."
    said = forecast_words({**found, "peak_bytes": 3_000_000_000})
    assert said.endswith(
        "about 3.0 GB of memory, of which 2.0 GB are free: gptft plan says what to change."
    )


@pytest.mark.parametrize("found", [None, "x", {}, {"predicted": None}])
def test_a_run_without_a_forecast_has_none(found: object) -> None:
    said = with_real(found, seconds=2.5)
    assert said["predicted"] is None
    assert said["real"]["seconds"] == 2.5


def test_a_forecast_is_kept_beside_what_it_came_to() -> None:
    predicted = {"steps": 3, "epochs": 1.0, "tokens_a_step": 8, "peak_bytes": 5}
    said = with_real({"predicted": predicted}, seconds=1.0)
    assert said["predicted"] == predicted
    assert said["real"]["peak_bytes"] > 10**7


@pytest.mark.parametrize(
    ("optimizer", "of_matrix", "of_rest"),
    [
        ("adamw_torch_fused", 8, 8), ("muon", 4, 8), ("adafactor", 0, 0), ("sgd", 0, 0),
        ("adamw_bnb_8bit", 2, 2), (SimpleNamespace(value="lion_32bit"), 4, 4),
    ],
    ids=str,
)  # fmt: skip
def test_an_optimizers_state(optimizer: Any, of_matrix: int, of_rest: int) -> None:
    assert module._state(optimizer, is_matrix=True) == of_matrix
    assert module._state(optimizer, is_matrix=False) == of_rest


def test_an_optimizers_state_is_what_torch_makes() -> None:
    weight = torch.nn.Parameter(torch.zeros(5, 7))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    made = sum(s.nbytes for s in optimizer.state[weight].values() if s.dim() == 2)
    assert made == module._state("adamw_torch", is_matrix=True) * weight.numel()
