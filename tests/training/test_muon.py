"""Muon against singular values by NumPy, AdamW of torch, and torch's own Muon."""

from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    TrainingArguments,
)

from gptft.config.training_conflicts import conflicts, training_problems
from gptft.config.training_fields import OWN_OPTIMIZERS
from gptft.config.training_needs import unmet_needs
from gptft.errors import ConfigError
from gptft.training.arguments import training_arguments
from gptft.training.optimizers import muon
from gptft.training.optimizers.muon import Muon, make, orthogonalize
from gptft.training.run import Resume
from tests.training.conftest import Run


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers on every CPU."""
    monkeypatch.setattr(muon, "has_native_bfloat16", lambda device: False)


def tiny_llama(**sizes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=0,
        **sizes,
    )
    return LlamaForCausalLM(config)


def optimizer_of(model: Any, *, lr: float = 0.01, weight_decay: float = 0.0) -> Muon:
    names = [name for name, weight in model.named_parameters() if weight.ndim == 2]
    args = TrainingArguments(learning_rate=lr, weight_decay=weight_decay, adam_beta2=0.95)
    return make(model, args, decay_names=names)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 24, 8), (2, 8, 24)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    for before, after in zip(matrices.numpy(), orthogonalize(matrices).numpy(), strict=True):
        u, _, vt = np.linalg.svd(before, full_matrices=False)
        inner = u.T @ after @ vt.T  # diagonal where singular vectors are the same
        assert np.abs(inner - np.diag(np.diag(inner))).max() < 1e-4
        assert np.diag(inner).min() > 0.3
        assert np.diag(inner).max() < 1.3


def test_scale_of_a_gradient_does_not_matter():
    torch.manual_seed(0)
    matrices = torch.randn(2, 6, 9)
    torch.testing.assert_close(
        orthogonalize(matrices * 1e-4), orthogonalize(matrices), rtol=1e-3, atol=1e-4
    )
    assert torch.equal(orthogonalize(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_a_matrix_moves_as_torchs_own_muon_moves_it():
    """torch.optim.Muon with `match_rms_adamw`, which computes in bfloat16: within its rounding."""
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(12, 20))
    theirs = torch.nn.Parameter(ours.detach().clone())
    mine = Muon([{"params": [ours], "is_matrix": True, "weight_decay": 0.1}], lr=0.02)
    stock = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    start = ours.detach().clone()
    for _ in range(4):
        gradient = torch.randn(12, 20)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        stock.step()
    moved, expected = ours.detach() - start, theirs.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()


def test_what_is_no_hidden_matrix_moves_as_adamw_moves_it():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(7))]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    settings: dict[str, Any] = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}
    mine = Muon([{"params": ours, "is_matrix": False, "weight_decay": 0.1}], **settings)
    stock = torch.optim.AdamW(theirs, weight_decay=0.1, **settings)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        stock.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_embeddings_heads_norms_and_biases_are_adamws():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_layer=1, n_head=2, n_embd=16, n_positions=8))
    for model in (gpt2, tiny_llama(), tiny_llama(tie_word_embeddings=True)):
        names = {id(weight): name for name, weight in model.named_parameters()}
        groups = optimizer_of(model).param_groups
        matrices = {names[id(p)] for g in groups if g["is_matrix"] for p in g["params"]}
        rest = {names[id(p)] for g in groups if not g["is_matrix"] for p in g["params"]}
        assert matrices | rest == set(names.values())
        assert not matrices & rest
        assert matrices == {
            name
            for name, weight in model.named_parameters()
            if weight.ndim == 2
            and not any(part in name for part in ("wte", "wpe", "embed", "lm_head"))
        }


def test_frozen_weights_are_left_out_and_decay_is_by_name():
    model = tiny_llama()
    model.model.embed_tokens.weight.requires_grad_(False)
    optimizer = optimizer_of(model, weight_decay=0.1)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert all(p is not model.model.embed_tokens.weight for p in held)
    assert {(g["is_matrix"], g["weight_decay"]) for g in optimizer.param_groups} == {
        (True, 0.1),
        (False, 0.1),
        (False, 0.0),
    }


def test_a_state_that_was_saved_goes_on_the_same():
    torch.manual_seed(0)
    gradients = [[torch.randn_like(p) for p in tiny_llama().parameters()] for _ in range(4)]

    def walk(model: Any, optimizer: Muon, steps: Any) -> None:
        for step in steps:
            for weight, gradient in zip(model.parameters(), gradients[step], strict=True):
                weight.grad = gradient.clone()
            optimizer.step()

    whole = tiny_llama()
    walk(whole, optimizer_of(whole), range(4))
    first = tiny_llama()
    optimizer = optimizer_of(first)
    walk(first, optimizer, range(2))
    second = tiny_llama()
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second)
    resumed.load_state_dict(optimizer.state_dict())
    walk(second, resumed, range(2, 4))
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_with_muon_learns_and_resumes_bit_for_bit(run: Run):
    muon_run = {"optim": "muon", "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = run("whole", training=muon_run)
    assert whole.train.loss_after < whole.train.loss_before
    run("cut", training={**muon_run, "max_steps": 3, "lr_scheduler_type": "constant"})
    with pytest.raises(ConfigError, match=r"training\.optim was muon and is adamw_torch_fused"):
        run(
            "cut",
            training={**muon_run, "optim": "adamw_torch_fused", "lr_scheduler_type": "constant"},
            resume=Resume(extend=True),
        )
    constant = {**muon_run, "lr_scheduler_type": "constant"}
    straight = run("straight", training=constant)
    resumed = run("cut", training=constant, resume=Resume(extend=True))
    model = "model/model.safetensors"
    assert (resumed.run_dir / model).read_bytes() == (straight.run_dir / model).read_bytes()


def test_muon_is_known_to_the_config_and_what_it_cannot_do_is_refused(tmp_path: Any):
    assert training_problems({"optim": "muon"}) == []
    [(name, problem)] = training_problems({"optim": "moun"})
    assert name == "optim"
    assert "muon" in problem
    for other, message in (
        ({"fsdp": True}, "needs whole matrices"),
        ({"optim_args": "a=1"}, "has no effect"),
    ):
        with pytest.raises(ConfigError, match=message):
            training_arguments(
                {"optim": "muon", "use_cpu": True, **other},
                run_dir=tmp_path,
                has_validation=False,
                dtype="auto",
                block_size=64,
            )


@pytest.mark.parametrize("name", OWN_OPTIMIZERS)
def test_every_optimizer_of_ours_has_a_module_of_its_name(name: str):
    module = import_module(f"gptft.training.optimizers.{name}")
    assert list(signature(module.make).parameters) == ["model", "args", "decay_names"]


def test_one_that_begins_like_a_stock_one_needs_none_of_its_packages(monkeypatch):
    monkeypatch.setitem(OWN_OPTIMIZERS, "galore_of_ours", {})
    training = {"optim": "galore_of_ours"}
    assert [p for p in unmet_needs(training) if p[0] == "optim"] == []
    assert [p for p in conflicts(training, has_validation=False) if p[0].startswith("optim")] == []
