"""`samples.recite`: what is recited before and after training, and what run.json keeps of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft.runs.recital import Recital, recital_of
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, facts

TEXTS = ("Буря\nмглою\nнебо\nкроет\n", "То\nкак\nзверь\n")


class Speaker:
    """A reciter that has learned one more line at each call."""

    def __init__(self) -> None:
        self.given: list[tuple[list[list[int]], list[int]]] = []

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], lengths: Sequence[int]
    ) -> list[str]:
        assert not model.training
        torch.rand(3)  # which training must not miss
        self.given.append(([*map(list, prompts)], [*lengths]))
        number = len(self.given) + 1
        return ["\n" + "\n".join(text.split("\n")[1:number]) for text in TEXTS]


def sections(folder: Path, *, recite: Any = True, **training: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return {
        "data": {"train": [str(folder)], "block_size": 64},
        "samples": {"recite": recite},
        "training": training,
    }


def lines(recital: Recital | None) -> list[tuple[str, int, int, int]]:
    assert recital is not None
    return [(one.prompt, one.num_lines, one.lines_before, one.lines_after) for one in recital.texts]


def test_a_text_is_recited_before_and_after(run: Run, tmp_path: Path):
    speaker = Speaker()
    result = run(reciter=speaker, **sections(tmp_path / "verse"))
    assert lines(result.recital) == [("Буря", 3, 1, 2), ("То", 2, 1, 2)]
    assert len(speaker.given) == 2
    assert speaker.given[0] == speaker.given[1]
    kept = recital_of(facts(result.run_dir))
    assert kept == result.recital
    assert facts(result.run_dir)["result"]["recital"]["lines_after"] == 4
    assert facts(result.run_dir)["before"]["recital"] == [
        {"prompt": "Буря", "text": "\nмглою"},
        {"prompt": "То", "text": "\nкак"},
    ]


@pytest.mark.parametrize("recite", [None, False])
def test_nothing_is_recited_where_nothing_is_asked(run: Run, tmp_path: Path, recite: Any):
    result = run(reciter=Speaker(), **sections(tmp_path / "verse", recite=recite))
    assert result.recital is None
    assert recital_of(facts(result.run_dir)) is None


def test_reciting_changes_nothing_of_what_is_trained(
    run: Run, tmp_path: Path, tiny_model_dir: Path
):
    from tests.training.folders import weights

    model = {"name": str(tiny_model_dir), "config_overrides": {"resid_pdrop": 0.1}}
    with_, without = (
        run(str(recite), model=model, reciter=Speaker(), **sections(tmp_path / "v", recite=recite))
        for recite in (True, None)
    )
    assert weights(with_.run_dir) == weights(without.run_dir)


def test_a_resumed_run_keeps_what_was_recited_before_training(run: Run, tmp_path: Path):
    settings = sections(tmp_path / "verse", save_strategy="steps", save_steps=1)
    speaker = Speaker()
    with Cut(after=2):
        run(reciter=speaker, **settings)
    result = run(reciter=speaker, **settings, resume=Resume())
    assert lines(result.recital) == [("Буря", 3, 1, 2), ("То", 2, 1, 2)]
    assert len(speaker.given) == 2


def test_a_run_that_recited_something_else_recites_with_the_base_model(run: Run, tmp_path: Path):
    settings = sections(tmp_path / "verse", recite=1, save_strategy="steps", save_steps=1)
    with Cut(after=2):
        run(reciter=Speaker(), **settings)
    speaker = Speaker()
    result = run(reciter=speaker, **{**settings, "samples": {"recite": 2}}, resume=Resume())
    assert lines(result.recital) == [("Буря", 3, 1, 2), ("То", 2, 1, 2)]
    assert len(facts(result.run_dir)["before"]["recital"]) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"texts": [{"prompt": "a", "num_lines": 1}]},
        {"texts": [{"prompt": 1, "num_lines": 1, "lines_before": 0, "lines_after": 0,
                    "before": "", "after": ""}]},
        {"texts": []},
        {"texts": "a"},
        [],
        None,
    ],
)  # fmt: skip
def test_what_is_no_recital_is_none(broken: Any):
    assert recital_of({"result": {"recital": broken}}) is None
