"""`training.label_smoothing_factor`: the loss of a step is the formula's, over all its tokens."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from gptft.training.dataset import IGNORED, collate_blocks, collate_masked
from tests.training.by_hand import PLAINLY, blocks_of
from tests.training.conftest import Run
from tests.training.folders import rows


def smoothed(model: Any, batch: dict[str, torch.Tensor], factor: float) -> float:
    """The mean over the predicted tokens of (1 - factor) * -log p + factor * the mean of all."""
    inputs = {name: one for name, one in batch.items() if name != "labels"}
    with torch.no_grad():
        logs = -model(**inputs, use_cache=False).logits[:, :-1].double().log_softmax(-1)
    targets = batch["labels"][:, 1:]
    is_predicted = targets != IGNORED
    picked = logs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    losses = (1 - factor) * picked + factor * logs.mean(-1)
    return float(losses[is_predicted].mean())


@pytest.mark.parametrize("isolated", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_loss_of_a_step_is_that_of_the_formula(run: Run, tiny_model_dir: Any, isolated: bool):
    training = {
        **PLAINLY, "max_steps": 1, "label_smoothing_factor": 0.3,
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4,
    }  # fmt: skip
    data = {"shift_blocks": False, "isolate_documents": isolated}
    result = run(training=training, data=data)
    blocks = blocks_of(result.run_dir)[:8]
    assert {len(block) for block in blocks} != {32}  # a shorter one, so that batches weigh unlike
    collate = (lambda some: collate_masked(some, eos_token_id=0)) if isolated else collate_blocks
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    (logged,) = [row["loss"] for row in rows(result.run_dir / "metrics.jsonl") if "loss" in row]
    assert logged == pytest.approx(smoothed(model, collate(blocks), 0.3), abs=1e-5)
    assert logged != pytest.approx(smoothed(model, collate(blocks), 0.0), abs=1e-3)
