"""What the `training` section becomes on a CPU."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gptft.errors import ConfigError
from gptft.training import arguments
from gptft.training.arguments import training_arguments


def test_bfloat16_on_a_cpu_is_taken_where_it_is_fast_and_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def arguments_for_bf16() -> tuple[bool, bool]:
        args = training_arguments(
            {"bf16": True}, run_dir=tmp_path, has_validation=False, dtype="auto", block_size=64
        )
        return args.bf16, args.use_cpu

    monkeypatch.setattr(arguments, "pick_device", lambda **kwargs: torch.device("cpu"))
    monkeypatch.setattr(arguments, "has_native_bfloat16", lambda device: True)
    assert arguments_for_bf16() == (True, True)
    monkeypatch.setattr(arguments, "has_native_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match=r"bfloat16 instructions.*training\.bf16: false"):
        arguments_for_bf16()


def build(tmp_path: Path, **training: object) -> object:
    return training_arguments(
        training, run_dir=tmp_path, has_validation=False, dtype="auto", block_size=64
    )


def pretend(monkeypatch: pytest.MonkeyPatch, device: str, **environment: str) -> None:
    """Pretend that torch sees no better device, and that a launcher has set variables."""
    monkeypatch.setattr(arguments, "pick_device", lambda **kwargs: torch.device(device))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


TWO = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}


def test_processes_that_a_launcher_starts_on_a_cpu_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """transformers sets up gloo only where use_cpu is set; test_distributed tries it in full."""
    pretend(monkeypatch, "cpu", **TWO)
    taken: dict[str, object] = {}

    def take(**fields: object) -> SimpleNamespace:
        taken.update(fields)
        return SimpleNamespace(world_size=2, device=torch.device("meta"))

    monkeypatch.setattr(arguments, "TrainingArguments", take)
    build(tmp_path)
    assert taken["use_cpu"] is True


def test_processes_that_could_not_join_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, "mps", **TWO)
    monkeypatch.setattr(arguments, "TrainingArguments", lambda **_: SimpleNamespace(world_size=1))
    with pytest.raises(ConfigError, match=r"2 processes were started, and on mps each would train"):
        build(tmp_path)
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, and no launcher has set LOCAL_RANK"):
        build(tmp_path)


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("fsdp", ["full_shard auto_wrap", True])
def test_fsdp_without_gpus_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, fsdp: object
):
    pretend(monkeypatch, device, **TWO)
    with pytest.raises(ConfigError, match=r"training\.fsdp needs GPUs: without them accelerate"):
        build(tmp_path, fsdp=fsdp)
