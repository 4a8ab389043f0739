"""`training.weight_decay_end`: the weight decay of each step is that of a formula."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainingArguments

from gptft.config.training_conflicts import training_problems
from gptft.errors import ConfigError
from gptft.training.optimizers.muon import make
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.training.by_hand import PLAINLY, blocks_of, steps_by_hand
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts

STEPS = 5
MOVING = {
    **PLAINLY, "max_steps": STEPS, "learning_rate": 0.01, "weight_decay": 0.0,
    "weight_decay_end": 8.0, "adam_epsilon": 1e-3,
}  # fmt: skip
UNSHIFTED = {"data": {"shift_blocks": False}}


def by_formula(shape: str) -> list[float]:
    """From 0 at the first step to 8 at the last."""
    done = [step / (STEPS - 1) for step in range(STEPS)]
    if shape == "cosine":
        done = [(1 - math.cos(math.pi * one)) / 2 for one in done]
    return [8.0 * one for one in done]


def trained_by_hand(
    base: Path, blocks: list[torch.Tensor], optim: str, *, decays: list[float]
) -> dict[str, torch.Tensor]:
    """The weights after as many steps, each with a weight decay of its own."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    # What decays: matrices, embeddings among them; no bias and no gain of a norm.
    named = dict(model.named_parameters())
    names = {name for name, one in named.items() if one.ndim > 1}
    if optim == "muon":
        args = TrainingArguments(learning_rate=0.01, adam_epsilon=1e-3, weight_decay=1.0)
        optimizer: Any = make(model, args, decay_names=names)
        decaying = [group for group in optimizer.param_groups if group["weight_decay"]]
    else:
        some = [{"params": [one for n, one in named.items() if n in names]}]
        others = [one for n, one in named.items() if n not in names]
        groups = [*some, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.01, eps=1e-3)
        decaying = optimizer.param_groups[:1]

    def decay(step: int) -> None:
        for group in decaying:
            group["weight_decay"] = decays[step]

    steps_by_hand(model, optimizer, blocks, steps=len(decays), before=decay)
    return {name: one.detach() for name, one in named.items()}


@pytest.mark.parametrize(("optim", "shape"), [("adamw_torch_fused", "linear"), ("muon", "cosine")])
def test_the_weights_are_those_of_a_loop_by_hand(
    run: Run, tiny_model_dir: Path, optim: str, shape: str
):
    training = {**MOVING, "optim": optim, "weight_decay_schedule": shape}
    if shape == "linear":
        del training["weight_decay_schedule"]
    result = run(training=training, **UNSHIFTED)
    blocks, wanted = blocks_of(result.run_dir), by_formula(shape)
    right = trained_by_hand(tiny_model_dir, blocks, optim, decays=wanted)
    wrong = trained_by_hand(tiny_model_dir, blocks, optim, decays=[*wanted[1:], wanted[-1]])
    found = load_file(result.run_dir / "model" / "model.safetensors")
    for name, one in right.items():
        if name not in found:
            continue
        off, far = (float((found[name] - other[name]).norm()) for other in (right, wrong))
        if optim == "muon":  # its iteration lifts the rounding of vanishing singular values
            assert one.ndim < 2 or off < 0.5 * far
        else:
            assert off < 1e-4
            assert one.ndim < 2 or far > 1e-2


@pytest.mark.parametrize(
    "optim", ["muon", pytest.param("adamw_torch_fused", marks=pytest.mark.slow)]
)
def test_a_run_that_was_cut_off_has_the_decay_it_would_have_had(
    run: Run, tmp_path: Path, optim: str
):
    training = {
        **MOVING, "optim": optim, "weight_decay": 0.1, "max_steps": 6, "save_strategy": "steps",
        "save_steps": 2, "weight_decay_schedule": "cosine",
    }  # fmt: skip
    seen: list[tuple[int, list[float]]] = []
    stock = BlockTrainer.before_update

    def before_update(trainer: BlockTrainer, *args: Any) -> None:
        groups = trainer.optimizer.param_groups  # type: ignore[union-attr]
        seen.append((trainer.state.global_step, sorted(g["weight_decay"] for g in groups)))
        stock(trainer, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockTrainer, "before_update", before_update)
        whole = run("whole", training=training)
        first = list(seen)
        with Cut(after=5):
            run("cut", training=training)
        seen.clear()
        run("cut", training=training, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    assert seen == first[4:]
    assert [step for step, _ in first] == list(range(6))
    values = [decays[-1] for _, decays in first]
    assert values[0] == 0.1
    assert values[-1] == 8.0
    assert values == sorted(values)
    assert all(decays[0] == 0 for _, decays in first)  # of what doesn't decay
    marks = facts(whole.run_dir)["fingerprint"]
    assert marks["training.weight_decay_end"] == 8.0
    for change in ({"weight_decay_end": 7.0}, {"weight_decay_end": None}):
        other = {**training, **change, "weight_decay_schedule": "linear", "max_steps": 8}
        if change["weight_decay_end"] is None:
            del other["weight_decay_schedule"]
        with pytest.raises(ConfigError, match=r"training\.weight_decay_end was 8\.0 and is"):
            run("cut", training=other, resume=Resume(extend=True))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"weight_decay_end": -0.1}, "must be at least 0"),
        ({"weight_decay_end": "0.1"}, "must be a number or null"),
        ({"weight_decay_end": 0}, "has no effect: training.weight_decay is 0, too"),
        ({"weight_decay_end": 0.1, "weight_decay": 0.1}, "has no effect: training.weight_decay is"),
        ({"weight_decay_schedule": "cosine"}, "has no effect without training.weight_decay_end"),
        ({"weight_decay_end": 0.1, "weight_decay_schedule": "cosin"}, "Did you mean cosine?"),
        ({"weight_decay_end": 0.0, "weight_decay": 0.1, "optim": "lomo"}, "has no effect with opt"),
        ({"weight_decay_end": 0.1, "fsdp": "full_shard"}, "can't go together with training.fsdp"),
        ({"weight_decay_end": 0, "weight_decay": 0.1, "weight_decay_schedule": "linear"}, ""),
        ({"weight_decay_end": 0.1, "optim": "muon"}, ""),
        ({"weight_decay_end": None}, ""),
    ],
    ids=str,
)
def test_what_cant_be_is_said_where_it_is_written(training: dict[str, Any], said: str):
    problems = training_problems(training)
    assert any(said in message for _, message in problems) if said else not problems
