"""The loss in one pass against transformers' own: value and gradient."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.loss.loss_utils import ForCausalLMLoss

from gptft.training import loss as loss_module
from gptft.training.loss import causal_loss, use_fast_loss


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts, the last one shorter."""
    monkeypatch.setattr(loss_module, "_LOGITS_ON_CPU", 4 * 11)


def logits_and_labels(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(11, (3, 7))
    labels[1, 4:] = -100
    return (4 * torch.randn(3, 7, 11)).to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("divisor", [None, 5, torch.tensor(40)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 0.0)]
)
def test_it_is_the_stock_loss_and_gradient(divisor: Any, dtype: torch.dtype, tolerance: float):
    ours, labels = logits_and_labels(dtype)
    theirs = ours.detach().clone().requires_grad_()
    loss = causal_loss(ours, labels, 11, divisor)
    expected = ForCausalLMLoss(
        theirs, labels, 11, None if divisor is None else torch.as_tensor(divisor)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (loss / 4).backward()
    (expected / 4).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=tolerance, atol=tolerance / 10)


def test_logits_are_left_as_they_were_and_shifted_labels_are_taken():
    logits, labels = logits_and_labels(torch.float32)
    before = logits.detach().clone()
    shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]
    loss = causal_loss(logits, labels, 11, shift_labels=shifted)
    assert torch.equal(logits.detach(), before)
    assert loss.item() == causal_loss(logits, labels, 11).item()
    with torch.no_grad():
        assert causal_loss(logits, labels, 11).item() == loss.item()


def test_a_model_with_the_stock_loss_takes_ours_and_any_other_keeps_its_own(tiny_model_dir: Path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    model.loss_type = "ForCausalLM"
    use_fast_loss(model)
    assert model.loss_function is causal_loss

    def own(*args: Any, **kwargs: Any) -> None:
        """Some model's."""

    model.loss_function = own
    use_fast_loss(model)
    assert model.loss_function is own
