"""Runs that are killed by SIGKILL, each with one of the ways to stop, judge and average."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from gptft.training.moving_average import FILE
from tests.training.folders import assert_same, facts, make_place
from tests.training.processes import Command

pytestmark = pytest.mark.slow

CONFIG = """
model:
  name: '{model}'
  config_overrides: {{resid_pdrop: 0.1, embd_pdrop: 0.1}}
data: {{train: '{texts}', validation: 0.3, block_size: 32}}
training:
  max_steps: 12
  logging_steps: 1
  learning_rate: 1e-2
  lr_scheduler_type: cosine
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 2
  eval_strategy: steps
  eval_steps: 2
  use_cpu: true
  save_strategy: steps
  save_steps: 3
"""
CASES = {
    "ema_decay": ["training.ema_decay=0.9"],
    "ema_decay, adapter": ["training.ema_decay=0.9", "lora.r=2", "lora.dropout=0.1"],
    "ema_decay, best": [
        "training.ema_decay=0.5", "training.load_best_model_at_end=true",
        "training.save_steps=2", "training.learning_rate=0.1",
    ],
    "average_checkpoints": ["training.average_checkpoints=3", "training.save_total_limit=3"],
    "early_stopping": [
        "training.early_stopping_patience=3", "training.learning_rate=0.1",
        "training.lr_scheduler_type=constant",
    ],
    "shuffle_documents": ["data.shuffle_documents=true"],
    "weight_decay": ["training.weight_decay_end=2", "training.weight_decay_schedule=cosine"],
    "weight_decay, muon": ["training.weight_decay_end=2", "training.optim=muon"],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Iterator[Path]:
    """A folder with my.yaml and a cache."""
    folder = make_place(tmp_path_factory.mktemp("place"), config=CONFIG, model=tiny_model_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTFT_CACHE", str(folder / "cache"))
        yield folder


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_as_if_it_had_not_been(place: Path, tmp_path: Path, case: str):
    def start(name: str, *flags: str, slow: str | None = None) -> Command:
        settings = [*CASES[case], f"training.output_dir={tmp_path / name}"]
        words = [word for one in settings for word in ("--set", one)]
        log = tmp_path / f"{name}{len(flags)}.log"
        return Command("train", str(place / "my.yaml"), *words, *flags, log=log, slow=slow)

    whole = start("whole")
    assert whole.exit_code() == 0, whole.said
    step = 5  # between two evaluations, and two checkpoints
    killed = start("killed", slow="steps").wait_for(f"step {step}/")
    killed.send(signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    assert facts(tmp_path / "killed")["state"] == "running"
    resumed = start("killed", "--resume")
    assert resumed.exit_code() == 0, resumed.said
    assert "Resuming from step" in resumed.said
    assert_same(tmp_path / "killed", tmp_path / "whole")
    ends = [facts(tmp_path / name)["result"] for name in ("killed", "whole")]
    for name in ("ended", "averaged", "best", "model_step", "without_improvement"):
        assert ends[0][name] == ends[1][name], name
    if case == "early_stopping":
        assert ends[0]["ended"] == "early_stopping"
    if "ema_decay" in case:
        last = f"checkpoints/checkpoint-{ends[0]['steps']}"
        ours, theirs = (load_file(tmp_path / name / last / FILE) for name in ("killed", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours)
