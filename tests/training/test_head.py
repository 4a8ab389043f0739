"""The loss of a deferred output layer against transformers' own, by architecture."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

from gptft.training import loss as loss_module
from gptft.training.activations import use_fused_activations
from gptft.training.head import find_head
from gptft.training.loss import causal_loss, use_fast_loss
from gptft.training.unlikelihood import Unlikelihood
from tests.architectures.models import tiny_model


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts, the last one shorter, both of logits and of what is worked on at a time."""
    monkeypatch.setattr(loss_module, "_ROWS_ON_CPU", 5)
    monkeypatch.setattr(loss_module, "_LOGITS_ON_CPU", 700)


NO_DROPOUT = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "phi": {"resid_pdrop": 0.0},
    "opt": {"dropout": 0.0},
}
DEFERRED = ["gpt2", "llama", "gpt_neox", "qwen3", "phi", "opt", "cohere", "granite", "mistral"]


def stock_and_own(model_type: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Two models alike, one with transformers' loss."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        model = tiny_model(model_type, **NO_DROPOUT.get(model_type, {})).train()
        model.loss_type = "ForCausalLM"
        made.append(model)
    return made[0], made[1]


def some_labels(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(model.config.get_text_config().vocab_size, (3, 9))
    labels = ids.clone()
    labels[0, 2:6] = labels[2] = -100
    return ids, labels


def gradients(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            yield name, weight.grad


@pytest.mark.parametrize("model_type", DEFERRED)
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_and_every_gradient_are_the_stock_ones(model_type: str, mixed: bool):
    stock, own = stock_and_own(model_type)
    ids, labels = some_labels(stock)
    assert use_fast_loss(own)
    use_fused_activations(own)
    head = find_head(own)
    assert head is not None
    own.loss_function = partial(own.loss_function, head=head)
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if mixed else nullcontext()
    divisor = torch.tensor(7)
    with cast:
        expected = stock(input_ids=ids, labels=labels, num_items_in_batch=divisor).loss
        with head.deferred():
            loss = own(input_ids=ids, labels=labels, num_items_in_batch=divisor).loss
    (expected / 3).backward()
    (loss / 3).backward()
    near: dict[str, Any] = {"rtol": 2e-2, "atol": 2e-3} if mixed else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(loss, expected, **near)
    theirs = dict(gradients(stock))
    assert theirs.keys() == dict(gradients(own)).keys()
    for name, gradient in gradients(own):
        size = float(theirs[name].abs().max())
        torch.testing.assert_close(
            gradient, theirs[name], rtol=near["rtol"], atol=max(near["atol"], near["rtol"] * size)
        )
    assert "forward" not in vars(head.layer)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("gemma2", {"final_logit_softcapping": 30.0}),
        ("gemma3_text", {"final_logit_softcapping": 5.0}),
        ("xlnet", {"attn_type": "uni", "dropout": 0.0}),
        ("bart", {}),
    ],
)
def test_where_more_is_done_than_to_scale_the_logits_they_are_made(
    model_type: str, settings: dict[str, Any]
):
    model = tiny_model(model_type, **settings)
    before = model.loss_function
    assert find_head(model) is None
    assert model.loss_function == before
    layer = model.get_output_embeddings()
    assert layer is None or "forward" not in vars(layer)


def test_a_layer_that_is_frozen_gets_no_gradient_and_what_is_before_it_does():
    stock, own = stock_and_own("llama")
    ids, labels = some_labels(stock)
    for model in (stock, own):
        model.get_output_embeddings().weight.requires_grad_(False)  # type: ignore[union-attr]
    use_fast_loss(own)
    head = find_head(own)
    assert head is not None
    own.loss_function = partial(own.loss_function, head=head)
    with head.deferred():
        own(input_ids=ids, labels=labels).loss.backward()
    stock(input_ids=ids, labels=labels).loss.backward()
    assert head.layer.weight.grad is None
    theirs = dict(gradients(stock))
    for name, gradient in gradients(own):
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


def test_a_hook_on_the_layer_keeps_it_where_it_is():
    model = tiny_model("llama")
    model.get_output_embeddings().register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    assert find_head(model) is None


def test_an_unlikelihood_is_the_same_of_hidden_states():
    torch.manual_seed(0)
    model = tiny_model("llama")
    ids = torch.randint(9, (2, 30))
    cost = Unlikelihood(2.0, 2, 0)
    use_fast_loss(model, unlikelihood=cost)
    head = find_head(model)
    assert head is not None
    plain = model(input_ids=ids, labels=ids).loss
    model.loss_function = partial(model.loss_function, head=head)
    with head.deferred():
        loss = model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(loss, plain)
    without = ForCausalLMLoss(model(input_ids=ids).logits, ids, model.config.vocab_size)
    assert loss.item() > without.item()


def test_it_is_taken_as_logits_where_it_isn_t_deferred():
    model = tiny_model("llama")
    head = find_head(model)
    assert head is not None
    logits, labels = torch.randn(2, 5, 11), torch.randint(11, (2, 5))
    with_head = causal_loss(logits, labels, 11, head=head)
    assert with_head.item() == causal_loss(logits, labels, 11).item()
