"""How the loss of single documents fell: measured as log-softmax has it, and nothing disturbed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.data.document_sample import MAX_DOCUMENTS, sample_documents
from gptft.data.store import BlockStore, write_split
from gptft.report.html import write_report
from gptft.runs.documents import DocumentLoss, document_losses_of, fell_least
from gptft.runs.read import read_run
from gptft.training import document_losses
from gptft.training.run import Resume
from tests.conftest import SENTENCES
from tests.report.conftest import MakeRun, make_run
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts, rows, weights

__all__ = ["make_run"]  # a fixture

EOS = 0


def store_of(folder: Path, documents: list[list[int]], *, block_size: int = 16) -> BlockStore:
    arrays = [np.array([*ids, EOS], dtype=np.uint16) for ids in documents]
    write_split(
        arrays, folder, split="train", block_size=block_size, dtype=np.uint16, keep_tail=True
    )
    return BlockStore(folder)


def test_each_document_is_measured_alone_as_log_softmax_has_it(run: Run, tiny_model_dir: Path):
    result = run(training={"max_steps": 1, "learning_rate": 1e-9})
    assert result.documents is not None
    assert result.documents.num_measured == len(SENTENCES)
    assert len(result.documents.least) == 2
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).double().eval()
    for document in result.documents.least:
        [text] = [one for one in SENTENCES if one.startswith(document.start)]
        ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])[:32]
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        expected = -logits.log_softmax(-1).gather(1, ids[1:, None]).mean()
        assert document.loss_before == pytest.approx(float(expected), abs=1e-4)
        assert document.num_tokens == len(ids) - 1


def test_it_is_kept_in_run_json_and_shown_in_the_report(run: Run):
    result = run(training={"learning_rate": 1e-2})
    kept = document_losses_of(facts(result.run_dir))
    assert kept is not None
    assert kept == result.documents
    falls = [one.fall for one in kept.least]
    assert falls == sorted(falls)
    assert falls[-1] <= kept.median_fall
    page = write_report(result.run_dir).read_text(encoding="utf-8")
    assert "Look at these" in page
    assert kept.least[0].start.split()[0] in page


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_is_the_same_with_it_and_without(
    run: Run, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
):
    changed = {"resid_pdrop": dropout, "embd_pdrop": dropout}
    sections: dict[str, Any] = {
        "model": {"name": str(tiny_model_dir), "config_overrides": changed},
        "data": {"validation": 0.3},
        "training": {"eval_strategy": "steps", "eval_steps": 1},
    }
    with_it = run("with", **sections).run_dir
    monkeypatch.setattr(document_losses, "sample_documents", lambda *args, **named: [])
    without = run("without", **sections).run_dir
    assert facts(with_it)["result"]["documents"]["num_measured"] == 3
    assert facts(without)["result"]["documents"] is None
    assert weights(with_it) == weights(without)
    assert rows(with_it / "metrics.jsonl") == rows(without / "metrics.jsonl")
    for name in ("train", "validation", "samples", "best", "steps"):
        assert facts(with_it)["result"][name] == facts(without)["result"][name]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_resumed_run_has_what_was_measured_before_it(run: Run, is_known: bool):
    training = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}
    whole = run("whole", training=training)
    with Cut(after=3):
        run("cut", training=training)
    path = whole.run_dir.parent / "cut" / "run.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    assert len(said["before"]["documents"]) == 4
    if not is_known:  # as a run of an earlier gptft
        del said["before"]["documents"]
        path.write_text(json.dumps(said), encoding="utf-8")
    resumed = run("cut", training=training, resume=Resume())
    assert_same(resumed.run_dir, whole.run_dir)
    assert resumed.documents == whole.documents


def test_one_document_is_compared_with_none(run: Run, tmp_path: Path):
    (tmp_path / "one.txt").write_text(" ".join(SENTENCES), encoding="utf-8")
    result = run(data={"train": [str(tmp_path / "one.txt")]})
    assert result.documents is None
    assert "Look at these" not in write_report(result.run_dir).read_text(encoding="utf-8")


@pytest.mark.parametrize("few_blocks", [2_000, 3])
@pytest.mark.parametrize("num", [2, 7, 300])
def test_a_sample_is_spread_bounded_and_of_whole_beginnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num: int, few_blocks: int
):
    monkeypatch.setattr("gptft.data.document_sample._FEW_BLOCKS", few_blocks)
    documents = [[1 + n, *range(1_000, 1_000 + 8 + n % 5)] for n in range(num)]
    store = store_of(tmp_path, documents)
    found = sample_documents(store, eos_token_id=EOS)
    assert len(found) <= MAX_DOCUMENTS
    for one in found:
        whole = documents[int(one.ids[0]) - 1]
        assert one.text_ids.tolist() == whole[: len(one.text_ids)]
        assert one.ids.tolist() == [*whole, EOS][: len(one.ids)]
        assert len(one.ids) <= 16
    if few_blocks > len(store):
        assert len(found) == min(num, MAX_DOCUMENTS)
        assert int(found[-1].ids[0]) == num
    else:
        assert len({int(one.ids[0]) for one in found}) > num // 3
    again = sample_documents(store, eos_token_id=EOS)
    assert [one.ids.tolist() for one in again] == [one.ids.tolist() for one in found]


@pytest.mark.parametrize("documents", [[], [[5] * 40], [[5] * 40, [6] * 3], [[5]] * 30])
def test_where_there_is_nothing_to_compare_there_is_no_sample(
    tmp_path: Path, documents: list[list[int]]
):
    store = store_of(tmp_path, documents)
    assert sample_documents(store, eos_token_id=EOS) == []


def test_the_documents_that_fell_least_are_fewer_than_the_others():
    falls = [0.5, float("nan"), -0.25, 2.0, 1.0, 1.5, float("inf")]
    found = fell_least([DocumentLoss(str(fall), 9, 3.0 + fall, 3.0) for fall in falls])
    assert found is not None
    assert (found.num_measured, found.median_fall) == (5, 1.0)
    assert [one.start for one in found.least] == ["-0.25", "0.5"]
    assert fell_least([DocumentLoss("a", 9, 3.0, 1.0)]) is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {"num_measured": 2},
        {"num_measured": 2, "median_fall": 1.0, "least": []},
        {"num_measured": 2, "median_fall": 1.0, "least": [{"start": 5}]},
        {"num_measured": "x", "median_fall": 1.0, "least": [{"start": "a"}]},
    ],
)
def test_what_run_json_does_not_have_is_not_shown(make_run: MakeRun, said: Any):
    run_dir = make_run(result={"documents": said})
    assert document_losses_of(read_run(run_dir).facts) is None
    assert "Look at these" not in write_report(run_dir).read_text(encoding="utf-8")
