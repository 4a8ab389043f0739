"""`training.early_stopping_patience`: a run ends where held-out loss falls no more."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.config.training_conflicts import training_problems
from gptft.config.training_notices import training_notices
from gptft.errors import Interrupted
from gptft.report.facts import how_trained
from gptft.report.language import Words
from gptft.runs.read import read_run
from gptft.runs.status import status_of
from gptft.training.early_stopping import without_improvement
from gptft.training.evaluation import EvaluationStoppedError
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts, rows

# So high a rate that the tiny model gets worse after a few steps.
RISING = {
    "max_steps": 30, "learning_rate": 0.05, "lr_scheduler_type": "constant",
    "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 3,
    "early_stopping_patience": 3,
}  # fmt: skip
HELD_OUT = {"data": {"validation": 0.3}}


def stops_at(losses: list[float], *, patience: int, threshold: float, folder: Path) -> int | None:
    """After how many evaluations transformers' own callback ends training."""
    args = TrainingArguments(
        output_dir=str(folder), eval_strategy="steps", metric_for_best_model="loss",
        greater_is_better=False, load_best_model_at_end=True, use_cpu=True,
    )  # fmt: skip
    stock, state = EarlyStoppingCallback(patience, threshold), TrainerState()
    for number, loss in enumerate(losses, start=1):
        control = TrainerControl()
        stock.on_evaluate(args, state, control, {"eval_loss": loss})
        if control.should_training_stop:
            return number
        if state.best_metric is None:  # as `Trainer._determine_best_metric` has it
            state.best_metric = float("inf")
        if loss < state.best_metric:
            state.best_metric = loss
    return None


def test_it_counts_as_transformers_does(tmp_path: Path):
    draw = random.Random(7)
    ends = set()
    for _ in range(150):
        losses = [round(3 + draw.uniform(-0.2, 0.2) - 0.02 * k, 2) for k in range(12)]
        if draw.random() < 0.3:
            losses[draw.randrange(12)] = float("nan")
        patience, threshold = draw.randint(1, 4), draw.choice([0.0, 0.05, 0.1])
        logged = [(0, 1.0), *enumerate(losses, start=1)]  # one before training counts for nothing
        ours = next(
            (
                n
                for n in range(1, 13)
                if without_improvement(logged[: n + 1], threshold=threshold) >= patience
            ),
            None,
        )
        assert ours == stops_at(losses, patience=patience, threshold=threshold, folder=tmp_path)
        ends.add(ours)
    assert None in ends
    assert len(ends) > 4


def test_a_run_ends_where_held_out_loss_falls_no_more(run: Run, tmp_path: Path):
    said: list[str] = []
    result = run(training={**RISING, "save_steps": 2, "save_total_limit": 1}, **HELD_OUT,
                 notify=said.append)  # fmt: skip
    losses = [
        (row["step"], row["eval_loss"])
        for row in rows(result.run_dir / "metrics.jsonl")
        if "eval_loss" in row
    ]
    end = stops_at([one for _, one in losses], patience=3, threshold=0.0, folder=tmp_path)
    assert result.steps == losses[-1][0] == 2 * (end or 0) < 30
    best = min(losses, key=lambda one: one[1])
    told = facts(result.run_dir)["result"]
    assert (told["ended"], told["without_improvement"]) == ("early_stopping", 3)
    assert (told["steps"], told["planned_steps"]) == (result.steps, 30)
    assert told["best"]["step"] == best[0]
    assert told["best"]["checkpoint"] == f"checkpoints/checkpoint-{best[0]}"
    assert (result.run_dir / told["best"]["checkpoint"] / "model.safetensors").is_file()
    words = f"Stopped at step {result.steps} of 30: held-out loss has not fallen for 3 evaluations."
    assert [one for one in said if one.startswith(words) and f"at step {best[0]}, " in one]
    status = status_of(result.run_dir)
    why = f"after step {result.steps} of 30: held-out loss had not fallen enough for 3 evaluations"
    assert (status.state, status.reason) == ("done", why)
    steps = dict(how_trained(read_run(result.run_dir), Words.of("en", "report")))["steps"]
    assert steps == why.removeprefix("after step ")


def test_a_run_that_was_cut_off_ends_at_the_same_step(run: Run, tmp_path: Path):
    training = RISING
    whole = run("whole", training=training, **HELD_OUT)
    with Cut(after=whole.steps - 1):  # between the evaluations that count
        run("cut", training=training, **HELD_OUT)
    run("cut", training=training, **HELD_OUT, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)


@pytest.mark.slow
def test_dying_between_the_stop_and_the_model_costs_no_step(run: Run, tmp_path: Path):
    whole = run("whole", training=RISING, **HELD_OUT)
    shutil.copytree(whole.run_dir, tmp_path / "cut")
    path = tmp_path / "cut" / "run.json"
    known = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**known, "state": "running"}), encoding="utf-8")
    shutil.rmtree(tmp_path / "cut" / "model")
    said: list[str] = []
    run("cut", training=RISING, **HELD_OUT, resume=Resume(), notify=said.append)
    assert_same(tmp_path / "cut", whole.run_dir)
    assert facts(tmp_path / "cut")["result"]["ended"] == "early_stopping"
    assert any("nothing is left to train" in one for one in said)


@pytest.mark.slow
def test_a_signal_in_the_evaluation_that_ends_it_costs_no_further_step(run: Run, tmp_path: Path):
    whole = run("whole", training=RISING, **HELD_OUT)
    stock = BlockTrainer.measure

    def measure(trainer: BlockTrainer, dataset: Any) -> Any:
        if trainer.state.global_step == whole.steps:
            trainer._signals.stop = trainer._signals.told_by_others()
            raise EvaluationStoppedError
        return stock(trainer, dataset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockTrainer, "measure", measure)
        with pytest.raises(Interrupted):
            run("cut", training=RISING, **HELD_OUT)
    result = run("cut", training=RISING, **HELD_OUT, resume=Resume())
    assert result.steps == whole.steps
    assert_same(tmp_path / "cut", whole.run_dir)


@pytest.mark.slow
def test_without_patience_it_is_continued(run: Run, tmp_path: Path):
    training = {**RISING, "max_steps": 14}
    first = run(training=training, **HELD_OUT)
    impatient = {**training, "early_stopping_patience": None}
    longer = run(training=impatient, **HELD_OUT, resume=Resume(extend=True))
    assert longer.steps == 14 > first.steps
    assert longer.ended == "steps"
    assert status_of(tmp_path / "run").reason is None


def test_a_run_that_gets_better_is_left_alone(run: Run):
    training = {**RISING, "max_steps": 6, "learning_rate": 1e-3}
    assert run(training=training, **HELD_OUT).ended == "steps"


EVERY = {"eval_strategy": "steps", "eval_steps": 10}


@pytest.mark.parametrize(
    ("training", "has_validation", "said"),
    [
        ({"early_stopping_patience": 2}, True, "has no effect with eval_strategy: no. Set"),
        ({"early_stopping_patience": 2, **EVERY}, False, "needs a validation part"),
        ({"early_stopping_threshold": 0.1, **EVERY}, True, "without training.early_stopping_pat"),
        ({"early_stopping_patience": 0, **EVERY}, True, "must be at least 1"),
        (
            {"early_stopping_patience": 2, "early_stopping_threshold": -1, **EVERY},
            True,
            "must be at least 0",
        ),
        ({"early_stopping_patience": 2, "early_stopping_threshold": 0.5, **EVERY}, True, ""),
        ({"early_stopping_patience": None}, False, ""),
    ],
    ids=str,
)
def test_what_cant_work_is_said_where_it_is_written(
    training: dict[str, Any], has_validation: bool, said: str
):
    problems = training_problems(training, has_validation=has_validation)
    found = [f"{name} {message}" for name, message in problems]
    assert any(said in one for one in found) if said else not problems


@pytest.mark.parametrize(
    ("training", "num_steps", "num_epochs", "said"),
    [
        ({**EVERY}, 30, 3.0, "is 3, and the run has 3 evaluations: it can't end early"),
        ({**EVERY}, 40, 3.0, ""),
        ({"eval_strategy": "epoch"}, 40, 3.0, "the run has 3 evaluations"),
        ({"eval_strategy": "epoch"}, 40, 4.0, ""),
        ({"eval_strategy": "steps", "eval_steps": 0.5}, 40, 4.0, "the run has 2 evaluations"),
    ],
    ids=str,
)
def test_too_few_evaluations_are_told_before(
    training: dict[str, Any], num_steps: int, num_epochs: float, said: str
):
    values = {"early_stopping_patience": 3, **training}
    found = training_notices(values, num_steps=num_steps, num_epochs=num_epochs)
    notes = [text for name, text in found if name == "early_stopping_patience"]
    assert (said in notes[0]) if said else not notes
