"""The loss in one pass against transformers' own: value and gradient."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

from gptft.data.store import BlockStore
from gptft.files import default_cache_dir
from gptft.models.causal_probe import leaves_labels_to_be_moved
from gptft.training import loss as loss_module
from gptft.training.loss import causal_loss, use_fast_loss
from tests.architectures.models import tiny_model
from tests.training.conftest import Run
from tests.training.folders import rows


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


NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
# Architectures with a loss of their own, whose label is of the very token that is read.
OWN_LOSS: dict[str, dict[str, Any]] = {
    "bart": NO_DROPOUT,
    "whisper": NO_DROPOUT,
    "prophetnet": NO_DROPOUT,
    "xlm": {"causal": True, "dropout": 0.0, "attention_dropout": 0.0},
    "xlnet": {"attn_type": "uni", "dropout": 0.0},
}


def loss_of_blocks(model: PreTrainedModel, store: BlockStore) -> float:
    """The mean loss of every token but each block's first, by log-softmax in float64."""
    losses = []
    for block in (torch.from_numpy(block.astype("int64")) for block in store):
        with torch.no_grad():
            logits = model.eval()(input_ids=block[None], use_cache=False).logits[0].double()
        losses += (-logits[:-1].log_softmax(-1)[range(len(block) - 1), block[1:]]).tolist()
    return sum(losses) / len(losses)


@pytest.mark.parametrize("model_type", OWN_LOSS)
def test_a_model_with_a_loss_of_its_own_learns_the_next_token(
    run: Run, tmp_path: Path, tiny_model_dir: Path, model_type: str
):
    base = tmp_path / "base"
    tiny_model(model_type, **OWN_LOSS[model_type]).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model_dir / name, base)
    result = run(
        model={"name": str(base)},
        training={
            "max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 32,
            "lr_scheduler_type": "constant",
        },
    )  # fmt: skip
    [logged] = [row["loss"] for row in rows(result.run_dir / "metrics.jsonl") if "loss" in row]
    [store] = (default_cache_dir() / "blocks").iterdir()
    before = loss_of_blocks(AutoModelForCausalLM.from_pretrained(base), BlockStore(store))
    assert logged == pytest.approx(before, abs=2e-3)
    after = AutoModelForCausalLM.from_pretrained(result.run_dir / "model")
    assert loss_of_blocks(after, BlockStore(store)) < before - 0.003


def test_a_repetition_costs_where_a_model_has_a_loss_of_its_own(
    run: Run, tmp_path: Path, tiny_model_dir: Path
):
    base = tmp_path / "base"
    tiny_model("bart", **NO_DROPOUT).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model_dir / name, base)
    model = {"name": str(base)}
    logged = []
    for cost in ({}, {"unlikelihood_weight": 1, "unlikelihood_ngram_size": 1}):
        result = run(f"run-{len(cost)}", model=model, training={**cost, "max_steps": 1})
        [loss] = [row["loss"] for row in rows(result.run_dir / "metrics.jsonl") if "loss" in row]
        logged.append(loss)
    assert logged[1] > logged[0]


@pytest.mark.parametrize("model_type", ["gpt2", "gemma3", "mixtral", "mamba", "opt", "git"])
def test_who_moves_the_labels_is_found_out_and_nothing_is_changed(model_type: str):
    """GIT moves them itself, by as many tokens as its image has, and fails without one."""
    model = tiny_model(model_type).train()
    stock, state = model.loss_function, torch.get_rng_state()
    assert leaves_labels_to_be_moved(model) is (model_type != "git")
    assert model.loss_function is stock
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
