"""`training.average_checkpoints`: the model is the mean of the last ones, measured as it is."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from gptft.config.training_conflicts import training_problems
from gptft.config.training_notices import training_notices
from gptft.errors import RunError
from gptft.report.language import Words
from gptft.report.verdict import kept_model
from gptft.runs.held_out import best_step
from gptft.runs.read import read_run
from gptft.training.checkpoint_mean import mean_of
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.training.by_hand import blocks_of, mean_loss
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts, rows, weights

Tensors = dict[str, torch.Tensor]
EVERY_TWO = {
    "max_steps": 7, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.01,
    "average_checkpoints": 3, "save_total_limit": 3,
}  # fmt: skip
HELD_OUT = {"data": {"validation": 0.3}}


@contextmanager
def saving_after(step: int) -> Iterator[None]:
    """A signal asks for a checkpoint of this step."""
    stock = BlockTrainer.training_step

    def training_step(trainer: BlockTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        trainer._signals.save = trainer.state.global_step + 1 == step
        return stock(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockTrainer, "training_step", training_step)
        yield


def by_hand(run_dir: Path, steps: list[int], name: str = "model.safetensors") -> Tensors:
    """The mean of checkpoints' tensors, in float64."""
    states = [load_file(run_dir / "checkpoints" / f"checkpoint-{step}" / name) for step in steps]
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0) for key in states[0]
    }


def assert_mean(kept: Tensors, mean: Tensors) -> None:
    assert kept.keys() == mean.keys()
    for name, one in mean.items():
        assert torch.allclose(kept[name].double(), one, atol=1e-7), name


def test_the_model_is_the_mean_of_the_last_checkpoints(run: Run, tmp_path: Path):
    plain = {name: value for name, value in EVERY_TWO.items() if name != "average_checkpoints"}
    without = run("without", training=plain, **HELD_OUT)
    result = run(training=EVERY_TWO, **HELD_OUT)
    kept = load_file(result.run_dir / "model" / "model.safetensors")
    assert_mean(kept, by_hand(result.run_dir, [4, 6, 7]))
    last = load_file(without.run_dir / "model" / "model.safetensors")
    assert max(float((kept[name] - last[name]).abs().max()) for name in kept) > 1e-3
    assert result.averaged == {"checkpoints": [4, 6, 7]}
    told = facts(result.run_dir)["result"]
    assert told["averaged"] == {"checkpoints": [4, 6, 7]}
    assert result.validation is not None
    assert without.validation is not None
    assert result.validation.loss_after != without.validation.loss_after
    assert "the mean of the checkpoints of steps 4, 6, 7" in kept_model(
        read_run(result.run_dir), Words.of("en", "report")
    )
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model").eval()
    held = blocks_of(result.run_dir, "validation")
    assert result.validation.loss_after == pytest.approx(mean_loss(model, held), abs=1e-6)


@pytest.mark.parametrize("kind", ["frozen", pytest.param("adapter", marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_has_the_mean_it_would_have_had(
    run: Run, bases: Callable[[str], Path], tmp_path: Path, kind: str
):
    part: dict[str, Any] = (
        {"lora": {"r": 2, "dropout": 0.1}}
        if kind == "adapter"
        else {"model": {"freeze": ["wte", "h.0"]}}
    )
    model = {"name": str(bases("gpt2")), **part.pop("model", {})}
    whole = run("whole", model=model, **part, training=EVERY_TWO)
    with saving_after(5), Cut(after=5):  # which no uninterrupted run has
        run("cut", model=model, **part, training=EVERY_TWO)
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-5").is_dir()
    result = run("cut", model=model, **part, training=EVERY_TWO, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    assert result.averaged == whole.averaged == {"checkpoints": [4, 6, 7]}
    names = {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()}
    assert names >= {"checkpoint-4", "checkpoint-6", "checkpoint-7"}
    if kind == "adapter":
        name = "adapter_model.safetensors"
        kept = load_file(whole.run_dir / "adapter" / name)
        assert_mean(kept, by_hand(whole.run_dir, [4, 6, 7], name))
    else:
        kept, base = (
            load_file(folder / "model.safetensors")
            for folder in (whole.run_dir / "model", bases("gpt2"))
        )
        name = "transformer.h.0.attn.c_attn.weight"
        assert torch.equal(kept[name], base[name])


@pytest.mark.slow
def test_dying_before_the_model_is_written_costs_no_step(run: Run, tmp_path: Path):
    result = run(training=EVERY_TWO)
    kept = weights(result.run_dir)
    path = result.run_dir / "run.json"
    path.write_text(path.read_text("utf-8").replace('"done"', '"running"'), encoding="utf-8")
    (result.run_dir / "model" / "model.safetensors").unlink()
    again = run(training=EVERY_TWO, resume=Resume())
    assert weights(again.run_dir) == kept
    assert again.averaged == {"checkpoints": [4, 6, 7]}
    # One of them damaged: said with the way out, and nothing is made of the others.
    path.write_text(path.read_text("utf-8").replace('"done"', '"running"'), encoding="utf-8")
    damaged = result.run_dir / "checkpoints" / "checkpoint-4" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    with pytest.raises(RunError, match=r"checkpoint-4, one of the 3 .*average_checkpoints=null"):
        run(training=EVERY_TWO, resume=Resume())
    plain = {**EVERY_TWO, "average_checkpoints": None}
    assert run(training=plain, resume=Resume()).averaged is None
    assert rows(result.run_dir / "metrics.jsonl")[-1]["step"] == 7


def test_a_short_run_has_the_mean_of_what_there_is(run: Run):
    said: list[str] = []
    result = run(training={**EVERY_TWO, "max_steps": 3}, notify=said.append)
    assert result.averaged == {"checkpoints": [2, 3]}
    words = "training.average_checkpoints is 3, and the run saves 2 checkpoints: the model is the"
    assert any(words in one for one in said)


@pytest.mark.parametrize(
    ("training", "num_steps", "num_epochs", "said"),
    [
        ({"save_steps": 10}, 30, 3.0, ""),
        ({"save_steps": 10}, 21, 3.0, ""),  # 10, 20 and the last
        ({"save_steps": 10}, 20, 3.0, "saves 2 checkpoints"),
        ({"save_steps": 0.34}, 100, 3.0, ""),
        ({"save_steps": 0.5}, 100, 3.0, "saves 2 checkpoints"),
        ({}, 400, 3.0, "saves 1 checkpoint: the model is that of the last step"),
        ({"save_strategy": "epoch"}, 400, 2.0, "saves 2 checkpoints"),
        ({"save_strategy": "epoch"}, 400, 2.5, ""),
    ],
    ids=str,
)
def test_too_few_checkpoints_are_told_before(
    training: dict[str, Any], num_steps: int, num_epochs: float, said: str
):
    found = training_notices(
        {"average_checkpoints": 3, **training}, num_steps=num_steps, num_epochs=num_epochs
    )
    notes = [text for name, text in found if name == "average_checkpoints"]
    assert (said in notes[0]) if said else not notes


def test_equal_tensors_keep_every_bit_and_the_mean_is_exact(tmp_path: Path):
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(1000, generator=draw)
    states = [{"same": one, "n": torch.tensor([k]), "x": one * k} for k in range(1, 8)]
    mean = mean_of(states)
    assert torch.equal(mean["same"], one)
    assert mean["n"].tolist() == [7]
    exact = torch.stack([one.double() * k for k in range(1, 8)]).mean(0)
    assert torch.allclose(mean["x"].double(), exact, rtol=3e-7, atol=0)
    assert math.isfinite(float(mean["x"].sum()))
    save_file(mean, tmp_path / "x.safetensors")  # nothing shares memory


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"average_checkpoints": 1}, "must be at least 2"),
        ({"average_checkpoints": 2.5}, "must be a whole number"),
        ({"ema_decay": 0.9}, "can't go together with training.ema_decay: the model can be but"),
        ({"save_strategy": "no"}, "needs training.save_strategy: steps or epoch, and that is no"),
        ({"save_total_limit": 2}, "needs 3 checkpoints, and training.save_total_limit keeps 2"),
        (
            {"eval_strategy": "steps", "eval_steps": 500, "load_best_model_at_end": True},
            "can't go together with training.load_best_model_at_end",
        ),
        ({"fsdp": "full_shard"}, "can't go together with training.average_checkpoints"),
        ({"save_total_limit": 3}, ""),
        ({"average_checkpoints": None}, ""),
        ({"average_checkpoints": 3.0, "save_strategy": "epoch"}, ""),
    ],
    ids=str,
)
def test_what_cant_be_is_said_in_one_line(training: dict[str, Any], said: str):
    problems = training_problems({"average_checkpoints": 3, **training})
    assert [message for _, message in problems if said in message] if said else not problems
    assert len(problems) == bool(said)


def test_no_checkpoint_is_named_for_the_loss_of_a_mean(tmp_path: Path):
    (tmp_path / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    curve = [(4, 3.0), (7, 2.5)]
    held = best_step(curve, run_dir=tmp_path)
    mean = best_step(curve, run_dir=tmp_path, not_stored=7)
    assert held is not None
    assert mean is not None
    assert (held.step, held.checkpoint) == (7, "checkpoints/checkpoint-7")
    assert (mean.step, mean.checkpoint) == (7, None)
