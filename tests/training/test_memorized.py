"""`training.stop_when_memorized`: a run ends when nothing is left to learn, and not before."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.files import write_json
from gptft.training import memorized
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts, weights
from tests.training.test_guards import small_memory

# The first two begin with the same word: what follows it in each is chance.
TEXTS = ("The quick fox\njumps over\n", "The lazy dog\n", "42 times, or 7.\n")
STOPS = {
    "max_steps": -1,
    "num_train_epochs": 200,
    "learning_rate": 2e-2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 10,
    "stop_when_memorized": True,
}


def sections(folder: Path, *texts: str, **training: Any) -> dict[str, Any]:
    """A run on these texts, a file each."""
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return {
        "data": {"train": [str(folder)], "block_size": 64, "isolate_documents": "auto"},
        "training": {**STOPS, **training},
    }


def probabilities(run_dir: Path, text: str) -> list[float]:
    """Of each token of a text but the first, and of EOS, by plain transformers."""
    model = AutoModelForCausalLM.from_pretrained(run_dir / "model")
    tokenizer = AutoTokenizer.from_pretrained(run_dir / "model")
    ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
    with torch.no_grad():
        found = model(ids).logits[0, :-1].softmax(-1).gather(1, ids[0, 1:, None])
    values: list[float] = found[:, 0].tolist()
    return values


def stopped_early(run_dir: Path) -> bool:
    result = facts(run_dir)["result"]
    assert result["is_memorized"] is (result["steps"] < result["planned_steps"])
    return bool(result["is_memorized"])


def test_a_run_ends_at_the_first_epoch_that_knows_every_token(run: Run, tmp_path: Path):
    said: list[str] = []
    settings = sections(tmp_path / "verse", TEXTS[0])
    result = run(**settings, notify=said.append)
    assert 0 < result.steps < result.planned_steps == 200
    assert result.is_memorized
    assert min(probabilities(result.run_dir, TEXTS[0])) >= 0.9
    assert said[-1] == (
        f"Stopped at step {result.steps} of 200: every token of the text has p >= 0.9, nothing is "
        "left to learn."
    )
    assert facts(result.run_dir)["state"] == "done"
    # A step earlier a token was left to learn.
    every = {"save_strategy": "steps", "save_steps": result.steps - 1}
    again = run("again", **sections(tmp_path / "verse", TEXTS[0], **every))
    assert again.steps == result.steps
    weights = f"checkpoints/checkpoint-{result.steps - 1}/model.safetensors"
    shutil.copy(again.run_dir / weights, again.run_dir / "model")
    assert min(probabilities(again.run_dir, TEXTS[0])) < 0.9


def test_documents_that_begin_alike_are_memorized_where_they_can_be(run: Run, tmp_path: Path):
    result = run(**sections(tmp_path / "verse", *TEXTS))
    assert stopped_early(result.run_dir)
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "model")
    first, second = (tokenizer(text).input_ids for text in TEXTS[:2])
    shared = next(
        n for n, (one, other) in enumerate(zip(first, second, strict=False)) if one != other
    )
    found = [probabilities(result.run_dir, text) for text in TEXTS]
    assert found[0].pop(shared - 1) + found[1].pop(shared - 1) < 1.01  # the quick or the lazy one
    assert min(map(min, found)) >= 0.9


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stop_when_memorized": False}, "it isn't asked for"),
        ({"learning_rate": 1e-6}, "too little is learned"),
    ],
)
def test_a_run_goes_to_its_end_where(run: Run, tmp_path: Path, changes: Any, why: str):
    settings = sections(tmp_path / "verse", TEXTS[0], num_train_epochs=60, **changes)
    result = run(**settings)
    assert (result.steps, result.planned_steps, result.is_memorized) == (60, 60, False), why


def test_a_run_by_steps_is_looked_at_after_evaluations(run: Run, tmp_path: Path):
    """One epoch is longer than the run, as where a text is repeated by its weight."""
    settings = sections(
        tmp_path / "verse", TEXTS[0], max_steps=400, eval_strategy="steps",
        eval_steps=20, per_device_train_batch_size=1,
    )  # fmt: skip
    source = {"path": str(tmp_path / "verse"), "weight": 1000}
    (tmp_path / "held-out.txt").write_text("The dog\n", encoding="utf-8")
    del settings["training"]["num_train_epochs"]
    settings["data"] |= {
        "train": [source], "validation": str(tmp_path / "held-out.txt"),
    }  # fmt: skip
    result = run(**settings)
    assert result.steps % 20 == 0
    assert stopped_early(result.run_dir)


def test_a_text_too_long_to_be_memorized_is_never_looked_at(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(memorized, "LONGEST_TEXT", 10)
    said: list[str] = []
    settings = sections(tmp_path / "verse", TEXTS[0], num_train_epochs=2)
    assert run(**settings, notify=said.append).steps == 2
    assert [one for one in said if "stop_when_memorized has no effect" in one]


def test_a_run_that_stopped_is_done_and_extends(run: Run, tmp_path: Path):
    saves = {"save_strategy": "steps", "save_steps": 1000}
    settings = sections(tmp_path / "verse", TEXTS[0], **saves)
    result = run(**settings)
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert saved.name == f"checkpoint-{result.steps}"
    settings["training"] |= {"stop_when_memorized": False}
    said: list[str] = []
    extended = run(**settings, resume=Resume(extend=True), notify=said.append)
    assert (extended.steps, extended.is_memorized) == (200, False)
    assert any(f"Resuming from step {result.steps}" in line for line in said)


@pytest.mark.parametrize("memory", ["enough", "short"])
def test_extending_trains_on_until_the_text_is_known_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str
):
    """Also where that begins out of memory: the newest checkpoint is that of the stop then."""
    saves = {"save_strategy": "steps", "save_steps": 1000, "auto_batch": True}
    settings = sections(tmp_path / "verse", TEXTS[0], **saves)
    settings["data"]["train"] = [{"path": str(tmp_path / "verse"), "weight": 6}]  # several blocks
    result = run(**settings)
    assert stopped_early(result.run_dir)
    if memory == "short":
        small_memory(monkeypatch, rows_at_most=1)
    assert run(**settings, resume=Resume(extend=True)).steps > result.steps


def test_dying_after_the_stop_costs_nothing(run: Run, tmp_path: Path):
    settings = sections(tmp_path / "verse", TEXTS[0], save_strategy="steps", save_steps=1000)
    result = run(**settings)
    shutil.copytree(result.run_dir, tmp_path / "whole")
    shutil.rmtree(result.run_dir / "model")
    before = facts(result.run_dir)
    del before["result"]
    write_json(result.run_dir / "run.json", {**before, "state": "running"})
    said: list[str] = []
    again = run(**settings, resume=Resume(), notify=said.append)
    assert again.is_memorized
    assert any("was the last one; nothing is left to train" in line for line in said)
    assert_same(again.run_dir, tmp_path / "whole")


def test_a_run_that_is_cut_off_stops_where_it_would_have(run: Run, tmp_path: Path):
    settings = sections(tmp_path / "verse", *TEXTS, save_strategy="steps", save_steps=7)
    whole = run("whole", **settings)
    with Cut(after=10):
        run("cut", **settings)
    run("cut", **settings, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    assert stopped_early(tmp_path / "cut")


def test_looking_changes_nothing_of_what_is_trained(run: Run, tmp_path: Path, tiny_model_dir: Path):
    """Dropout draws: a number more or less would give other weights."""
    model = {"name": str(tiny_model_dir), "config_overrides": {"resid_pdrop": 0.1}}
    looked, not_looked = (
        run(
            str(stops),
            model=model,
            **sections(tmp_path / "verse", *TEXTS, num_train_epochs=5, stop_when_memorized=stops),
        )
        for stops in (True, False)
    )
    assert looked.steps == not_looked.steps == 5
    assert weights(looked.run_dir) == weights(not_looked.run_dir)


def test_only_one_batch_is_looked_at_while_something_is_left(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And the window that was left the last time comes first."""
    looked_at: list[list[int]] = []

    def known(trainer: Any, model: Any, windows: Any) -> list[bool]:
        assert not model.training
        looked_at.append([len(window.ids) for window in windows])
        return [len(window.ids) < 10 for window in windows]

    monkeypatch.setattr(memorized, "_known", known)
    texts = ("A", "The quick brown fox jumps over the lazy dog; 42 times, or 7.", "Q")
    run(**sections(tmp_path / "verse", *texts, num_train_epochs=4, per_device_eval_batch_size=1))
    sizes = [sizes for (sizes,) in looked_at]
    assert sizes[0] == 2  # A and EOS
    assert len(set(sizes[1:])) == 1
    assert len(sizes) == 4  # two, one, one, and after the last epoch nothing could be stopped
