"""A sweep's file: which runs it asks for, what they are called, and what is wrong with one."""

from pathlib import Path
from typing import Any

import pytest

from gptft.config.sweep import MAX_RUNS, name_of, read_sweep
from gptft.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_grid_is_all_combinations_and_runs_follow_one_by_one(tmp_path: Path):
    text = """
grid:
  training.learning_rate: [1e-3, 1e-4]
  training.seed: [1, 2]
runs:
  - {training.learning_rate: 5e-4, data.block_size: 64}
  - model.config_overrides.resid_pdrop: 0.1
"""
    runs = read_sweep(write(tmp_path, text))
    assert [run.name for run in runs] == [
        "learning_rate=0.001,seed=1",
        "learning_rate=0.001,seed=2",
        "learning_rate=0.0001,seed=1",
        "learning_rate=0.0001,seed=2",
        "data.block_size=64,learning_rate=0.0005",
        "model.config_overrides.resid_pdrop=0.1",
    ]
    assert runs[1].settings == {"training.learning_rate": 1e-3, "training.seed": 2}
    assert [given.place.rpartition("/")[2] for given in runs[1].given] == [
        "sweep.yaml:3:28",
        "sweep.yaml:4:22",
    ]
    assert runs[5].given[0].keys == ("model", "config_overrides", "resid_pdrop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "asks for no run. Write grid: {training.learning_rate: [1e-3"),
        ("grid:", "asks for no run."),
        ("runs: []", "asks for no run."),
        ("grid: [1]", ":1:1  grid must be settings with their values, not [1]."),
        ("runs: {training.seed: 1}", ":1:1  runs must be a list of settings, not a mapping."),
        ("runs: [3]", ":1:8  a run must be settings, such as {training.seed: 1}, not 3."),
        ("runs: [{}]", ":1:8  a run must be settings"),
        ("girds: {}", ":1:1  girds is nothing that a sweep has. Did you mean grid?"),
        ("training: {seed: 1}", "training is nothing that a sweep has. A sweep has grid and runs"),
        ("grid: {training.seed: 1}", "training.seed must have a list of values, such as [1, 2]"),
        ("grid: {training.seed: []}", "training.seed must have a list of values"),
        ("grid: {training: [{seed: 1}]}", "training is a section. Name each setting in full"),
        ("runs: [{data: {seed: 1}}]", "data is a section."),
        ("grid: {training.output_dir: [a]}", "is the folder that all runs of a sweep go below."),
        ("grid: {training..seed: [1]}", "training..seed is no setting's name."),
        ("grid: {training.seed: [1, 1]}", "1:27  the run seed=1 is asked for twice."),
        ("grid: {training.seed: [1]}\nruns: [{training.seed: 1}]", "2:9  the run seed=1 is asked"),
        ("grid: {training.seed: [1}", "not YAML"),
        ("grid: {training.seed: [1], training.seed: [2]}", "training.seed is set twice"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError) as caught:
        read_sweep(write(tmp_path, text))
    assert said in str(caught.value)
    assert "sweep.yaml" in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_problems_are_named_at_once(tmp_path: Path):
    text = "grid: {training.seed: 1, data.seed: []}\nruns: [4, 5]\nmore: 1"
    with pytest.raises(ConfigError) as caught:
        read_sweep(write(tmp_path, text))
    assert len(caught.value.problems) == 5


def test_a_sweep_without_end_is_refused_before_it_is_made(tmp_path: Path):
    axes = "\n".join(f"  training.x{n}: {[*range(100)]}" for n in range(20))
    with pytest.raises(ConfigError, match=rf"a number of 41 digits runs; {MAX_RUNS:,} are the"):
        read_sweep(write(tmp_path, f"grid:\n{axes}"))


NAMED: list[dict[str, Any]] = [
    {"training.seed": 1},
    {"training.seed": -1.5e-300},
    {"training.bf16": True, "training.optim": "muon", "model.revision": None},
    {"model.name": "runs/a b"},
    {"model.name": "runs/a_b"},
    {"model.name": "../../etc"},
    {"data.train": ["a", "b"]},
    {"data.train": "[a, b]"},
    {"data.document_heading": "^\\s*\n\x00$"},
    {"samples.prompts": ["Мороз и солнце; день чудесный! " * 50]},
    {"model.name": "ж" * 500},
    {"model.name": "ж" * 501},
    {f"training.{'x' * 80}{n}": n for n in range(5)},
    {f"training.{'x' * 80}{n}": n + 1 for n in range(5)},
    {"model.config_overrides": {"a": [1, {"b": None}]}},
    {"model.name": ".."},
    {"model.name": ""},
]


def test_names_are_safe_short_stable_and_all_different():
    names = [name_of(settings) for settings in NAMED]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert "/" not in name
        assert "\0" not in name
        assert name.isprintable()
        assert not name.startswith((".", "-"))
        assert 0 < len(name.encode()) <= 120
    assert name_of({"data.seed": 2, "training.seed": 1}) == "data.seed=2,seed=1"
    assert name_of({"training.seed": 1, "data.seed": 2}) == "data.seed=2,seed=1"
