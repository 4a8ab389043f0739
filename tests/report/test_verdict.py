"""Sentences on held-out loss, from curves written by hand."""

import pytest

from gptft.report.html import report
from gptft.report.model_card import model_card
from gptft.report.verdict import last_words
from gptft.runs.read import read_run
from tests.report.conftest import MakeRun

Row = dict[str, float]


def evaluations(*losses: float) -> list[Row]:
    """Steps 10, 20, ... with these held-out losses; before training it is 5.5, at step 40 4.5."""
    return [{"step": 10 * i, "eval_loss": loss} for i, loss in enumerate(losses, start=1)]


def figures(before: float, after: float) -> dict[str, float]:
    return {"loss_before": before, "loss_after": after}


def test_a_run_that_turned_names_the_step_the_checkpoint_and_what_to_change(make_run: MakeRun):
    best = {"step": 10, "loss": 3.0, "checkpoint": "checkpoints/checkpoint-10"}
    result = {"model_step": 40, "best": best, "validation": figures(5.5, 4.5)}
    run = read_run(make_run(metrics=evaluations(3.0, 3.5, 4.0, 4.5), result=result))
    worse, advice = last_words(run)
    assert worse.startswith("Held-out loss was lowest at step 10, 3.000, and ended at 4.500:")
    assert advice.startswith(f"{run.path}/checkpoints/checkpoint-10 holds the model of step 10.")
    assert "training.num_train_epochs: 10, not 40" in advice  # 10 of 40 steps, 40 epochs
    assert "training.load_best_model_at_end: true" in advice
    for shown in (report(run), model_card(run)):
        assert "lowest at step 10, 3.000" in shown
        assert "that of step 40, the last" in shown


@pytest.mark.parametrize(
    ("training", "advised"),
    [
        ({}, "with training.eval_strategy: epoch and training.save_strategy: best"),
        ({"eval_strategy": "steps"}, "load_best_model_at_end: true; train"),
        ({"eval_strategy": "epoch"}, "load_best_model_at_end: true, with training.save_strategy"),
        ({"max_steps": 40}, "fewer steps (training.max_steps: 10)"),
    ],
)
def test_the_advice_is_what_this_config_lacks(
    make_run: MakeRun, training: dict[str, object], advised: str
):
    result = {"model_step": 40, "validation": figures(5.5, 4.5)}
    rows = evaluations(3.0, 4.5, 4.5, 4.5)
    run = read_run(make_run(metrics=rows, result=result, config={"training": training}))
    advice = last_words(run)[1]
    assert "No checkpoint of step 10 was kept." in advice
    assert advised in advice


@pytest.mark.parametrize(
    ("after", "training", "said"),
    [
        (16825532.0, {"learning_rate": 1000}, "16,825,532.000 after. Lower training.learning_rate"),
        (5.7, {"learning_rate": 0.05}, "5.700 after. Lower training.learning_rate, 0.05."),
        (9.0, {}, "9.000 after. Lower training.learning_rate."),
        (5.55, {}, ""),  # the noise of a few steps
        (5.5, {}, ""),
        (3.0, {"learning_rate": 0.05}, ""),
    ],
)
def test_a_run_that_got_worse_on_its_own_text_says_so_everywhere(
    make_run: MakeRun, after: float, training: dict[str, object], said: str
):
    result = {"train": figures(5.5, after), "validation": None}
    config = {"training": {"learning_rate": None, **training}}
    run = read_run(make_run(metrics=[], result=result, config=config))
    worse = "got worse on the very text it was trained on: loss 5.500 before and "
    assert [worse + said in sentence for sentence in last_words(run)] == [True] * bool(said)
    for shown in (report(run), model_card(run)):
        assert (worse + said.partition(" Lower")[0] in shown) is bool(said)


def test_a_run_that_never_got_better_is_told_without_an_evaluation(make_run: MakeRun):
    run = read_run(make_run(metrics=[], result={"validation": figures(3.0, 3.01)}))
    worse, advice = last_words(run)
    assert worse.startswith("Held-out loss was lowest before training, 3.000, and ended at 3.010")
    assert "lower training.learning_rate" in advice
    assert "checkpoint" not in advice


def test_a_run_that_got_better_says_nothing(make_run: MakeRun):
    assert last_words(read_run(make_run("down"))) == []
    noise = evaluations(4.49, 4.45, 4.5, 4.5)  # 4.5 is 1.1 % above the lowest
    assert last_words(read_run(make_run("noise", metrics=noise))) == []
    same = {"validation": figures(3.0, 3.0005)}
    assert last_words(read_run(make_run("same", metrics=[], result=same))) == []
    bare = make_run("bare", metrics=[], result={"validation": ...})
    assert last_words(read_run(bare)) == []


def test_the_model_kept_is_named_where_it_is_not_the_last(make_run: MakeRun):
    result = {"model_step": 20, "validation": figures(5.5, 3.0)}
    best = {"training": {"load_best_model_at_end": True}}
    run = read_run(make_run(metrics=evaluations(4.0, 3.0, 4.0, 5.0), result=result, config=best))
    kept = "that of step 20, the best on held-out text, and not of step 40"
    [worse] = last_words(run)  # nothing to change: the best one was kept
    assert "lowest at step 20, 3.000, and ended at 5.000" in worse
    assert worse.endswith("The model of that step was kept.")
    page, card = report(run), model_card(run)
    assert kept in page
    assert kept in card
    assert "step 20, the best</figcaption>" in page
    assert "Continued after step 20:" in card


def test_of_an_earlier_version_nothing_is_claimed(make_run: MakeRun):
    best = {"training": {"load_best_model_at_end": True}}
    page = report(read_run(make_run(config=best)))
    assert "model kept" not in page
