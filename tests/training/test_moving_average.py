"""`training.ema_decay`: the average of the weights is measured, saved and resumed to the bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gptft.config.training_conflicts import training_problems
from gptft.errors import ConfigError
from gptft.report.language import Words
from gptft.report.verdict import kept_model
from gptft.runs.checkpoints import MANIFEST
from gptft.runs.read import read_run
from gptft.training.kept_weights import KeptWeights
from gptft.training.moving_average import FILE, MovingAverage
from gptft.training.run import Resume
from tests.training.by_hand import PLAINLY, blocks_of, mean_loss, steps_by_hand
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, contents, rows, weights

Tensors = dict[str, torch.Tensor]
STEPWISE = {
    "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps",
    "eval_steps": 2, "learning_rate": 0.01, "ema_decay": 0.6,
}  # fmt: skip
HELD_OUT = {"data": {"validation": 0.3}}


def stored(folder: Path) -> Tensors:
    """What is in a checkpoint: the weights themselves."""
    return load_file(folder / "model.safetensors")


def average_in(run_dir: Path, step: int) -> Tensors:
    return load_file(run_dir / "checkpoints" / f"checkpoint-{step}" / FILE)


def by_hand(
    base: Path, blocks: list[torch.Tensor], *, steps: int, rate: float, decay: float
) -> tuple[Any, Tensors]:
    """SGD on two blocks a step, in their order; the model, and the average in float64.

    AdamW would make as much of the noise in a gradient of 0 as of any other.
    """
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    means = {name: one.detach().double().clone() for name, one in model.named_parameters()}

    def average(step: int) -> None:
        d = min(decay, (2 + step) / (11 + step))
        for name, one in model.named_parameters():
            means[name] = d * means[name] + (1 - d) * one.detach().double()

    steps_by_hand(model, optimizer, blocks, steps=steps, after=average)
    return model.eval(), means


def test_the_average_is_that_of_a_loop_by_hand(run: Run, tiny_model_dir: Path, tmp_path: Path):
    training = {
        **STEPWISE, **PLAINLY, "max_steps": 3, "save_steps": 3, "eval_steps": 3,
        "optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.2,
        "ema_decay": 0.2,  # reached in the second step; the first has 2 / 11
    }  # fmt: skip
    result = run(training=training, data={**HELD_OUT["data"], "shift_blocks": False})
    train, held = (blocks_of(result.run_dir, split) for split in ("train", "validation"))
    model, means = by_hand(tiny_model_dir, train, steps=3, rate=0.2, decay=0.2)
    kept, raw = stored(result.run_dir / "model"), stored(checkpoint(result.run_dir, 3))
    ours = average_in(result.run_dir, 3)
    assert ours.keys() == means.keys()
    for name, mean in means.items():
        assert torch.allclose(ours[name].double(), mean, atol=2e-6), name
        if name in kept:
            assert torch.equal(kept[name], ours[name])
            assert torch.allclose(raw[name], dict(model.named_parameters())[name], atol=2e-6)
    apart = max(float((kept[name] - raw[name]).abs().max()) for name in kept if name in means)
    assert apart > 1e-3
    row = next(one for one in rows(result.run_dir / "metrics.jsonl") if "eval_loss" in one)
    assert row["eval_raw_loss"] == pytest.approx(mean_loss(model, held), abs=1e-5)
    model.load_state_dict({**model.state_dict(), **{k: v.float() for k, v in means.items()}})
    assert row["eval_loss"] == pytest.approx(mean_loss(model, held), abs=1e-5)
    assert result.validation is not None
    assert result.validation.loss_after == pytest.approx(row["eval_loss"], abs=1e-7)
    assert result.averaged == {"ema_decay": 0.2}
    assert "the moving average of its weights" in kept_model(
        read_run(result.run_dir), Words.of("en", "report")
    )


def checkpoint(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"checkpoint-{step}"


CASES: dict[str, dict[str, Any]] = {
    "best": {
        "training": {**STEPWISE, "load_best_model_at_end": True, "learning_rate": 0.3},
        "samples": {"prompts": ["Буря"], "steps": 1},
    },
    "adapter": {"training": STEPWISE, "lora": {"r": 2, "dropout": 0.1}},
}


@pytest.mark.parametrize("case", ["best", pytest.param("adapter", marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_has_the_average_it_would_have_had(
    run: Run, bases: Callable[[str], Path], tmp_path: Path, case: str
):
    overrides = {"resid_pdrop": 0.1, "embd_pdrop": 0.1}
    asked = {
        "model": {"name": str(bases("gpt2")), "config_overrides": overrides},
        **HELD_OUT, **CASES[case],
    }  # fmt: skip
    whole = run("whole", **asked)
    with Cut(after=5):
        run("cut", **asked)
    if case == "best":
        before = contents(tmp_path / "cut")
        for change in ({"ema_decay": 0.7}, {"ema_decay": None}, {"ema_save": False}):
            other = {**asked, "training": {**asked["training"], **change}}
            with pytest.raises(ConfigError, match=r"training\.ema_(decay|save) was .* and is"):
                run("cut", **other, resume=Resume())
        assert contents(tmp_path / "cut") == before
    run("cut", **asked, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    for step in (2, 4, 6):
        ours, theirs = (average_in(tmp_path / name, step) for name in ("cut", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        manifest = json.loads((checkpoint(whole.run_dir, step) / MANIFEST).read_text("utf-8"))
        assert FILE.as_posix() in manifest["files"]
    if case == "best":
        losses = {
            row["step"]: row["eval_loss"]
            for row in rows(whole.run_dir / "metrics.jsonl")
            if "eval_loss" in row
        }
        best = min(losses, key=lambda step: losses[step])
        assert best == whole.model_step < 6
        kept, average = stored(whole.run_dir / "model"), average_in(whole.run_dir, best)
        assert all(torch.equal(kept[name], average[name]) for name in kept)
    if case == "adapter":
        assert all("lora_" in name for name in ours)
        kept = load_file(whole.run_dir / "adapter" / "adapter_model.safetensors")
        assert all(
            torch.equal(one, ours[name.removeprefix("base_model.model.")[:-7] + ".default.weight"])
            for name, one in kept.items()
        )


def test_the_run_itself_is_the_one_without_an_average(run: Run):
    plain = {name: value for name, value in STEPWISE.items() if name != "ema_decay"}
    without = run("without", training=plain, **HELD_OUT)
    beside = run("beside", training={**STEPWISE, "ema_save": False}, **HELD_OUT)
    averaged = run("averaged", training=STEPWISE, **HELD_OUT)
    assert weights(beside.run_dir) == weights(without.run_dir) != weights(averaged.run_dir)
    for step in (2, 4, 6):
        one, *others = (
            (checkpoint(each.run_dir, step) / "model.safetensors").read_bytes()
            for each in (without, beside, averaged)
        )
        assert others == [one, one]
    logs = [rows(one.run_dir / "metrics.jsonl") for one in (without, beside, averaged)]
    measured = [[row for row in log if "eval_loss" in row] for log in logs]
    for plainly, aside, kept in zip(*measured, strict=True):
        assert plainly["eval_loss"] == aside["eval_loss"] == kept["eval_raw_loss"]
        assert aside["eval_ema_loss"] == kept["eval_loss"] != plainly["eval_loss"]
    assert averaged.validation is not None
    assert averaged.validation.loss_after == measured[2][-1]["eval_loss"]
    assert beside.averaged is None


@pytest.mark.slow
def test_an_average_without_a_checkpoint_is_saved_and_measured(run: Run):
    """Nothing but the model is written, and a signal at the end still finds the raw weights."""
    training = {"ema_decay": 0.5, "save_strategy": "no", "max_steps": 3}
    seen: list[Tensors] = []
    stock = KeptWeights.take

    def take(kept: KeptWeights, trainer: Any) -> None:
        stock(kept, trainer)
        trainer.save_now()
        seen.append(stored(trainer.checkpoints_dir / "checkpoint-3"))
        seen.append(load_file(trainer.checkpoints_dir / "checkpoint-3" / FILE))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptWeights, "take", take)
        result = run(training=training)
    kept = stored(result.run_dir / "model")
    raw, average = seen
    assert all(torch.equal(kept[name], average[name]) for name in kept)
    assert any(not torch.equal(kept[name], raw[name]) for name in kept)
    other = run("other", training={**training, "ema_save": False})
    assert all(torch.equal(raw[name], one) for name, one in stored(other.run_dir / "model").items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_to_the_bit(tiny_model_dir: Path, tmp_path: Path, dtype: torch.dtype):
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=dtype)
    average = MovingAverage(model, decay=0.9, is_kept=True)
    with average.applied():  # before training
        pass
    average.begin()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    average.update(1)
    raw = {name: one.clone() for name, one in model.state_dict().items()}
    with average.applied(), average.applied():
        assert any(not torch.equal(raw[name], one) for name, one in model.state_dict().items())
        with average.set_aside():
            assert all(torch.equal(raw[name], one) for name, one in model.state_dict().items())
            average.save(tmp_path)
        assert any(not torch.equal(raw[name], one) for name, one in model.state_dict().items())
    assert all(torch.equal(raw[name], one) for name, one in model.state_dict().items())
    held = load_file(tmp_path / FILE)
    assert {one.dtype for one in held.values()} == {torch.float32}
    assert average.num_bytes == sum(4 * one.numel() for one in held.values())


@pytest.mark.slow
def test_a_damaged_average_is_a_damaged_checkpoint(run: Run, tmp_path: Path):
    whole = run("whole", training=STEPWISE, **HELD_OUT)
    with Cut(after=5):
        run("cut", training=STEPWISE, **HELD_OUT)
    path = checkpoint(tmp_path / "cut", 4) / FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    said: list[str] = []
    run("cut", training=STEPWISE, **HELD_OUT, resume=Resume(), notify=said.append)
    assert any("Skipped checkpoint-4: moving_average/weights.safetensors" in one for one in said)
    assert_same(tmp_path / "cut", whole.run_dir)


@pytest.mark.slow
def test_an_average_may_begin_in_mid_run(run: Run, tmp_path: Path):
    plain = {name: value for name, value in STEPWISE.items() if name != "ema_decay"}
    with Cut(after=5):
        run(training=plain, **HELD_OUT)
    allowed = Resume(allow=("ema_decay", "ema_save"))
    result = run(training=STEPWISE, **HELD_OUT, resume=allowed)
    at_four, at_six = (stored(checkpoint(result.run_dir, step)) for step in (4, 6))
    average = average_in(result.run_dir, 6)
    name = "transformer.h.0.attn.c_attn.weight"
    lowest, highest = (
        torch.stack([at_four[name], at_six[name]]).amin(0),
        torch.stack([at_four[name], at_six[name]]).amax(0),
    )
    inside = (average[name] > lowest - 0.02) & (average[name] < highest + 0.02)
    assert bool(inside.all())
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"ema_decay": 0}, "must be above 0"),
        ({"ema_decay": 1}, "must be below 1"),
        ({"ema_decay": "0.9"}, "must be a number or null"),
        ({"ema_decay": True}, "must be a number or null"),
        ({"ema_save": False}, "has no effect without training.ema_decay"),
        ({"ema_decay": 0.9, "fsdp": "full_shard"}, "can't go together with training.ema_decay"),
        ({"ema_decay": 0.9, "deepspeed": "a.json"}, "can't go together with training.ema_decay"),
        ({"ema_decay": None}, ""),
        ({"ema_decay": 0.999, "ema_save": True}, ""),
    ],
    ids=str,
)
def test_what_cant_be_is_said_where_it_is_written(training: dict[str, Any], said: str):
    problems = training_problems(training)
    assert (said in problems[0][1]) if said else not problems
