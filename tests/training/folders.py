"""What tests look at in run folders, and how they cut a run off."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft.training.trainer import BlockTrainer
from tests.conftest import SENTENCES

_TIMES = ("tokens_per_second",)


class CutOff(BaseException):  # nothing that handles errors may take it for one
    """Stands for a process that is killed: nobody writes anything any more."""


def make_place(folder: Path, *, config: str, model: Path) -> Path:
    """A few short texts in `folder`, and my.yaml to train `model` on them; gives `folder`."""
    (folder / "texts").mkdir()
    for number, sentence in enumerate(SENTENCES):
        (folder / "texts" / f"{number}.txt").write_text(sentence, encoding="utf-8")
    text = config.format(model=model, texts=folder / "texts")
    (folder / "my.yaml").write_text(text, encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def weights(run_dir: Path) -> bytes:
    """The trained model, byte by byte."""
    return (run_dir / "model" / "model.safetensors").read_bytes()


def facts(run_dir: Path) -> dict[str, Any]:
    """run.json, which must be JSON as everybody reads it."""

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    text = (run_dir / "run.json").read_text(encoding="utf-8")
    answer: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return answer


def rows(path: Path) -> list[dict[str, Any]]:
    """A log without what the clock says."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [{name: row[name] for name in row if name not in _TIMES} for row in lines]


def assert_same(run_dir: Path, expected: Path) -> None:
    """Whether two runs can't be told apart but by the clock."""
    assert weights(run_dir) == weights(expected)
    for name in ("metrics.jsonl", "samples.jsonl"):
        if (expected / name).exists() or (run_dir / name).exists():
            assert rows(run_dir / name) == rows(expected / name)
    found, wanted = facts(run_dir), facts(expected)
    assert found["state"] == wanted["state"] == "done"
    for name in ("steps", "num_tokens", "train", "validation", "samples"):
        assert found["result"][name] == wanted["result"][name], name


class Cut(pytest.MonkeyPatch):
    """`with Cut(after=3):` the process dies in the step after the third."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._after = after

    def __enter__(self) -> "Cut":
        stock, last = BlockTrainer.training_step, self._after

        def step(trainer: BlockTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
            if trainer.state.global_step >= last:
                raise CutOff
            return stock(trainer, *args, **kwargs)

        self.setattr(BlockTrainer, "training_step", step)
        self._expected = pytest.raises(CutOff)
        self._expected.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool:
        self.undo()
        return bool(self._expected.__exit__(*error))
