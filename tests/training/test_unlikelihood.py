"""Unlikelihood of repetitions: candidates by plain loops, loss and gradient by torch's autograd."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    TrainingArguments,
)

from gptft.config.training_conflicts import training_problems
from gptft.data.marked_ids import BEGINS, TRAINED
from gptft.errors import ConfigError, ModelError
from gptft.training import loss as loss_module
from gptft.training.dataset import DOCUMENTS, collate_marked, collate_marked_apart
from gptft.training.loss import causal_loss, use_fast_loss
from gptft.training.result import TrainResult
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from gptft.training.unlikelihood import Unlikelihood, repetitions
from tests.training.conftest import Run

EOS, IGNORED, VOCAB = 0, -100, 5


def by_loops(tokens: torch.Tensor, *, n: int, eos: int) -> list[tuple[int, int]]:
    """(place, candidate) pairs, each document read alone, n-gram by n-gram."""
    found = set()
    for row, line in enumerate(tokens.tolist()):
        document: list[int] = []
        for at, token in enumerate(line):
            if token == IGNORED:
                document = []
                continue
            document.append(token)
            seen = [tuple(document[i : i + n]) for i in range(len(document) - n)]
            beginning = tuple(document[-n:-1]) if n > 1 else ()
            if len(document) >= n:
                found |= {
                    (row * len(line) + at, ngram[-1])
                    for ngram in seen
                    if ngram[:-1] == beginning and ngram[-1] != token
                }
            if token == eos:
                document = []
    return sorted(found)


@pytest.mark.parametrize("eos", [EOS, 9])  # 9 stands nowhere: a row is one document
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_candidates_are_those_that_plain_loops_find(n: int, eos: int):
    torch.manual_seed(n)
    tokens = torch.randint(4, (6, 400))
    tokens[2, 250:] = IGNORED
    tokens[3] = IGNORED
    places, candidates = repetitions(tokens, ngram_size=n, eos_token_id=eos, ignored=IGNORED)
    expected = by_loops(tokens, n=n, eos=eos)
    assert len(expected) > 20
    assert sorted(zip(places.tolist(), candidates.tolist(), strict=True)) == expected
    assert places.tolist() == sorted(places.tolist())


@pytest.mark.parametrize("tokens", [[[1, 2]], [[1, 2, 3, 4, 1, 2, 3]], [[IGNORED] * 8]])
def test_where_nothing_repeats_there_is_no_candidate(tokens: list[list[int]]):
    found = repetitions(torch.tensor(tokens), ngram_size=3, eos_token_id=EOS, ignored=IGNORED)
    assert [len(part) for part in found] == [0, 0]


def logits_and_labels(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(VOCAB, (3, 25))
    labels[1, 14:] = IGNORED
    return (scale * torch.randn(3, 25, VOCAB)).requires_grad_(), labels


def by_autograd(
    logits: torch.Tensor, labels: torch.Tensor, *, weight: float, n: int, divisor: int | None
) -> torch.Tensor:
    """The definition: cross-entropy - weight * sum of log(1 - p), over a divisor."""
    targets = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
    pairs = by_loops(targets, n=n, eos=EOS)
    assert len(pairs) > 10
    p = logits.reshape(-1, VOCAB).double().softmax(dim=1)
    unlikely = sum(torch.log(1 - p[place, token]) for place, token in pairs)
    counts = targets.reshape(-1) != IGNORED
    rows = torch.arange(len(p))[counts]
    nll = -p[rows, targets.reshape(-1)[counts]].log().sum()
    return (nll - weight * unlikely) / (divisor or int(counts.sum()))


@pytest.mark.parametrize("rows_at_once", [4, 1000])
@pytest.mark.parametrize("divisor", [None, 7])
@pytest.mark.parametrize("n", [1, 2])
def test_loss_and_gradient_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, n: int, divisor: int | None, rows_at_once: int
):
    monkeypatch.setattr(loss_module, "_LOGITS_ON_CPU", rows_at_once * VOCAB)
    ours, labels = logits_and_labels()
    theirs = ours.detach().clone().requires_grad_()
    loss = causal_loss(ours, labels, VOCAB, divisor, unlikelihood=Unlikelihood(1.7, n, EOS))
    expected = by_autograd(theirs, labels, weight=1.7, n=n, divisor=divisor)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (loss / 4).backward()
    (expected / 4).backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        again = causal_loss(ours, labels, VOCAB, divisor, unlikelihood=Unlikelihood(1.7, n, EOS))
    assert again.item() == loss.item()


def test_a_model_that_is_sure_of_a_repetition_gets_finite_gradients():
    logits, labels = logits_and_labels(scale=300.0)
    loss = causal_loss(logits, labels, VOCAB, unlikelihood=Unlikelihood(10.0, 1, EOS))
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    # weight * p draws at a candidate, whatever 1 / (1 - p) would be.
    assert logits.grad.abs().max() <= 10.0 * VOCAB / int((labels[:, 1:] != IGNORED).sum()) + 1


def test_in_bfloat16_it_is_the_same_to_its_precision():
    logits, labels = logits_and_labels()
    rounded = logits.detach().to(torch.bfloat16).requires_grad_()
    loss = causal_loss(rounded, labels, VOCAB, unlikelihood=Unlikelihood(1.0, 2, EOS))
    exact = rounded.detach().float().requires_grad_()
    expected = by_autograd(exact, labels, weight=1.0, n=2, divisor=None)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    assert rounded.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(rounded.grad.float(), exact.grad, rtol=1e-2, atol=1e-4)


def test_where_the_loss_is_another_it_is_refused(tiny_model_dir: Path):
    cost = Unlikelihood(1.0, 4, EOS)
    with pytest.raises(ModelError, match=r"unlikelihood_weight.*float16"):
        causal_loss(
            torch.zeros(1, 4, VOCAB, dtype=torch.float16),
            torch.zeros(1, 4, dtype=torch.int64),
            VOCAB,
            unlikelihood=cost,
        )
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    model.loss_function = lambda *args, **kwargs: None
    with pytest.raises(ModelError, match=r"unlikelihood_weight.*gpt2 computes a loss of its own"):
        use_fast_loss(model, unlikelihood=cost)


def test_the_config_knows_it_and_what_it_cannot_do():
    assert training_problems({"unlikelihood_weight": 0.5, "unlikelihood_ngram_size": 3}) == []
    for values, said in (
        ({"unlikelihood_weight": -1.0}, "must be at least 0"),
        ({"unlikelihood_weight": "1"}, "must be a number"),
        ({"unlikelihood_weight": 1, "unlikelihood_ngram_size": 0}, "must be at least 1"),
        ({"unlikelihood_weight": 1, "unlikelihood_ngram_size": 2.5}, "must be a whole number"),
        ({"unlikelihood_ngram_size": 3}, "no effect without training.unlikelihood_weight"),
        ({"unlikelihood_weight": 0, "unlikelihood_ngram_size": 3}, "no effect without"),
        ({"unlikelihood_weight": 1, "fp16": True}, "can't go together"),
        ({"unlikelihood_weight": 1, "label_smoothing_factor": 0.1}, "can't go together"),
        ({"unlikelihood_weight": 1, "use_liger_kernel": True}, "can't go together"),
    ):
        [(_, problem)] = training_problems(values)
        assert said in problem
    [(_, problem)] = training_problems({"unlikelyhood_weight": 1})
    assert "training.unlikelihood_weight" in problem


def test_a_run_learns_not_to_repeat_and_remembers_that_it_did(
    run: Run, tiny_model_dir: Path, corpus_dir: Path
):
    base: dict[str, Any] = {"max_steps": 40, "learning_rate": 3e-3}
    plain = run("plain", training=base)
    tuned = run("tuned", training={**base, "unlikelihood_weight": 5, "unlikelihood_ngram_size": 1})
    assert tuned.train.loss_before == plain.train.loss_before  # measured without it
    assert tuned.train.loss_after > plain.train.loss_after
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(corpus_dir.glob("*.txt")))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    ids = tokenizer(text, return_tensors="pt", verbose=False).input_ids[:, :32]

    def unlikelihood_of(result: TrainResult) -> float:
        """What repetitions add to the loss of the text that both were trained on."""
        model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model")
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        size = logits.shape[-1]
        both = causal_loss(logits, ids, size, unlikelihood=Unlikelihood(1.0, 1, EOS))
        return float(both - causal_loss(logits, ids, size))

    assert unlikelihood_of(tuned) < 0.9 * unlikelihood_of(plain)
    marks = [
        json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))["fingerprint"]
        for result in (plain, tuned)
    ]
    assert "training.unlikelihood_weight" not in marks[0]
    assert marks[1]["training.unlikelihood_weight"] == 5
    assert marks[1]["training.unlikelihood_ngram_size"] == 1
    with pytest.raises(ConfigError, match=r"training\.unlikelihood_weight was 5 and is"):
        run("tuned", training={**base, "max_steps": 44}, resume=Resume(extend=True))


def by_conversations(
    batch: dict[str, torch.Tensor], blocks: list[torch.Tensor], *, n: int
) -> list[tuple[int, int]]:
    """(place, candidate) pairs, each conversation read alone; what isn't learned is no n-gram."""
    found, width = set(), batch["input_ids"].shape[1]
    for row, block in enumerate(blocks):
        begins = [at for at, id in enumerate(block.tolist()) if at == 0 or id & int(BEGINS)]
        for start, stop in zip(begins, [*begins[1:], len(block)], strict=True):
            start = max(start, 1)  # the first token of a row is never predicted
            labels = batch["labels"][row, start:stop].tolist()
            ngrams = [tuple(labels[at : at + n]) for at in range(len(labels) - n + 1)]
            for at, ngram in enumerate(ngrams):
                found |= {
                    (row * width + start - 1 + at + n - 1, earlier[-1])
                    for earlier in ngrams[:at]
                    if IGNORED not in (*ngram, *earlier)
                    and earlier[:-1] == ngram[:-1]
                    and earlier[-1] != ngram[-1]
                }
    return sorted(found)


@pytest.mark.parametrize("collate", [collate_marked, collate_marked_apart])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("ends_are_learned", [True, False])
def test_a_conversation_ends_where_the_next_begins(
    n: int, collate: Callable[..., dict[str, torch.Tensor]], ends_are_learned: bool
):
    """Its end may have no label, and EOS may stand within it."""
    generator = torch.Generator().manual_seed(n)
    blocks = []
    for length in (60, 60, 41):
        ids = torch.randint(1, 4, (length,), generator=generator)
        begins = torch.rand(length, generator=generator) < 0.1
        ends = torch.cat([begins[1:], torch.tensor([True])])
        ids[ends | (torch.rand(length, generator=generator) < 0.1)] = EOS
        learned = torch.rand(length, generator=generator) < 0.9
        learned[ends] = ends_are_learned
        blocks.append(ids + begins * int(BEGINS) + learned * int(TRAINED))
    batch = collate(blocks)
    cost = Unlikelihood(1.0, n, EOS)
    targets = torch.nn.functional.pad(batch["labels"], (0, 1), value=IGNORED)[:, 1:]
    with cost.within(batch[DOCUMENTS]):
        unwanted = cost.unwanted(targets, ignored=IGNORED)
    expected = by_conversations(batch, blocks, n=n)
    assert len(expected) > 5
    found = zip(unwanted._places.tolist(), unwanted._tokens.tolist(), strict=True)
    assert sorted(found) == expected
    assert cost == Unlikelihood(1.0, n, EOS)  # it forgets the batch


def test_a_step_costs_no_repetition_of_another_conversation(tmp_path: Path):
    """Three conversations whose ends have no label, none of which repeats anything by itself."""
    torch.manual_seed(0)
    said = [5, 6, 7, 8, 9, 5, 6, 9, 8, 7, 5, 6, 8, 7, 9]
    marks = torch.tensor([int(BEGINS), *[int(TRAINED)] * 4]).repeat(3)
    block = torch.tensor(said) + marks
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=12, resid_pdrop=0, embd_pdrop=0,
                   attn_pdrop=0, eos_token_id=EOS, bos_token_id=EOS)
    )  # fmt: skip
    losses = []
    for cost in (None, Unlikelihood(5.0, 2, EOS)):
        trainer = BlockTrainer(
            model=copy.deepcopy(model), unlikelihood=cost,
            args=TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"),
            data_collator=collate_marked, train_dataset=[block],
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        losses.append(float(trainer.training_step(trainer.model, collate_marked([block]))))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0] > 0
