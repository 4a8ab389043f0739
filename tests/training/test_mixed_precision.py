"""`training.bf16: auto`: what the machine is faster in, once found out, and kept by a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft.config.training_fields import value_problems
from gptft.errors import ConfigError
from gptft.files import default_cache_dir
from gptft.models import bfloat16
from gptft.models.bfloat16 import bfloat16_on
from gptft.runs.read import read_facts
from gptft.training import mixed_precision
from gptft.training.arguments import training_arguments
from gptft.training.run import Resume
from tests.training.conftest import Run

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends what the CPU has, and what a timing gives; counts the timings."""
    monkeypatch.delenv("GPTFT_BF16", raising=False)
    timed = []

    def pretend(*, native: bool, amx: bool = False, gain: float = 1.0) -> list[float]:
        monkeypatch.setattr(bfloat16, "has_native_bfloat16", lambda device: native)
        monkeypatch.setattr(bfloat16, "_has_amx", lambda: amx)
        monkeypatch.setattr(bfloat16, "_measure", lambda: timed.append(gain) or gain)
        return timed

    return pretend


@pytest.mark.parametrize(
    ("native", "amx", "gain", "pays"),
    [
        (False, False, 9.0, False), (True, True, 2.1, True), (True, True, 1.0, True),
        (True, True, 0.05, False), (True, False, 1.9, True), (True, False, 1.1, False),
    ],
)  # fmt: skip
def test_flags_come_first_and_a_timing_where_they_leave_it_open(
    machine: Any, native: bool, amx: bool, gain: float, pays: bool
):
    timed = machine(native=native, amx=amx, gain=gain)
    assert bfloat16_on(CPU).pays is pays
    assert len(timed) == native


def test_a_timing_is_kept_for_the_machine(machine: Any):
    timed = machine(native=True, gain=1.9)
    assert [bfloat16_on(CPU).gain for _ in range(3)] == [1.9] * 3
    assert timed == [1.9]
    path = default_cache_dir() / "machine" / "bfloat16.json"
    assert [*json.loads(path.read_text()).values()] == [1.9]
    path.write_text("[]")  # damaged: measured again, and mended
    assert bfloat16_on(CPU).gain == 1.9
    assert len(timed) == 2
    machine(native=True, gain=0.1)
    assert bfloat16_on(CPU).pays  # what was found stays, whatever a busy moment would say


def test_the_real_timing_is_a_ratio(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bfloat16, "_ROWS", 8)
    state = torch.get_rng_state()
    assert 0.0 < bfloat16._measure() < 1000.0
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("said", "pays"), [("true", True), ("FALSE", False)])
def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch, said: str, pays: bool):
    monkeypatch.setenv("GPTFT_BF16", said)
    assert bfloat16_on(CPU).pays is pays
    monkeypatch.setenv("GPTFT_BF16", "maybe")
    with pytest.raises(ConfigError, match=r"GPTFT_BF16.*'maybe'"):
        bfloat16_on(CPU)


@pytest.mark.parametrize(
    ("training", "dtype", "expected"),
    [
        ({}, "auto", True), ({"bf16": "auto"}, "auto", True), ({"bf16": None}, "auto", True),
        ({"bf16": False}, "auto", False), ({}, "float32", False), ({}, "bfloat16", False),
        ({"fp16": True}, "auto", False), ({"fp16": True, "bf16": "auto"}, "auto", False),
    ],
)  # fmt: skip
def test_what_is_said_of_dtypes_is_kept(
    machine: Any, tmp_path: Path, training: dict[str, Any], dtype: Any, expected: bool
):
    machine(native=True, amx=True, gain=2.0)
    args = training_arguments(
        {"use_cpu": True, **training}, run_dir=tmp_path, has_validation=False, dtype=dtype,
        block_size=64,
    )  # fmt: skip
    assert args.bf16 is expected
    assert args.mixed_precision == ("bf16" if expected else "fp16" if args.fp16 else "no")


@pytest.mark.parametrize(
    ("native", "unlikelihood", "expected"),
    [(True, 0.0, (True, False)), (False, 0.0, (False, True)), (False, 1.0, (False, False))],
)
def test_an_old_gpu_takes_float16_where_the_loss_can_be_scaled(
    monkeypatch: pytest.MonkeyPatch, native: bool, unlikelihood: float, expected: tuple[bool, bool]
):
    monkeypatch.setattr(mixed_precision, "has_native_bfloat16", lambda device: native)
    found = mixed_precision.mixed_precision(
        {"unlikelihood_weight": unlikelihood}, torch.device("cuda")
    )
    assert (found["bf16"], found["fp16"]) == expected


def test_a_resumed_run_computes_as_it_began(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GPTFT_BF16", "true")
    monkeypatch.setattr("gptft.training.arguments.has_native_bfloat16", lambda device: True)
    said: list[str] = []
    saving = {"save_strategy": "steps", "save_steps": 1}
    first = run(training={"max_steps": 2, **saving}, notify=said.append)
    facts = read_facts(first.run_dir) or {}
    assert facts["fingerprint"]["training.bf16"] is True
    assert any("bfloat16" in sentence and "training.bf16: auto" in sentence for sentence in said)
    monkeypatch.setenv("GPTFT_BF16", "false")
    again = run(training={"max_steps": 3, **saving}, resume=Resume(extend=True))
    assert (read_facts(again.run_dir) or {})["fingerprint"]["training.bf16"] is True


@pytest.mark.parametrize("value", ["yes", 1, "Auto", []])
def test_nothing_else_is_taken(value: Any):
    [(name, problem)] = value_problems({"bf16": value})
    assert name == "bf16"
    assert "auto" in problem
    assert not value_problems({"bf16": "auto"})
