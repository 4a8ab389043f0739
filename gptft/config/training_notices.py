"""A `training` section and how long its run is -> what in it may not be what was meant."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gptft.config.training_fields import FieldProblem
from gptft.config.training_ignored import DEFAULTS, FOLLOW_EVALUATIONS
from gptft.terminal.words import count, percent, short_value


def training_notices(
    values: Mapping[str, Any],
    *,
    num_steps: int | None = None,
    num_epochs: float | None = None,
    num_blocks: int | None = None,
    num_processes: int = 1,
) -> Iterator[FieldProblem]:
    """What training does, and its settings don't let expect.

    Args:
        values: the section as given, nothing in it ignored.
        num_steps: of the run, where known.
        num_epochs: of the run, where known.
        num_blocks: of the training split, where known.
        num_processes: that train together.

    Returns:
        (field, sentence) pairs; the sentence has the field's full name.
    """
    given = {name: value for name, value in values.items() if value is not None}
    training = {**DEFAULTS, **given}
    if num_steps is not None:
        yield from _warmup(training, num_steps)
        yield from _intervals(given, training, num_steps)
        yield from _averaging(training, num_steps, num_epochs)
        yield from _patience(training, num_steps, num_epochs)
    yield from _learning_rate(training)
    yield from _model_alone(training)
    yield from _trackers(given)
    yield from _delay(training, num_steps, num_epochs)
    yield from _best_model(given, training)
    if num_blocks is not None:
        yield from _batch(given, num_blocks, num_processes)


def sample_notices(every: int | None, num_steps: int) -> list[str]:
    """A sentence where no samples are written between the first and the last, though asked for.

    Args:
        every: `samples.steps`.
        num_steps: of the run.
    """
    if every is None or every < num_steps:
        return []
    n = count(num_steps, "step")
    return [
        f"samples.steps is {every:,}, and the run has {n}: the prompts are continued before and "
        "after it alone."
    ]


def _trackers(given: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if given.get("report_to", "none") not in ("none", ["none"], []):
        return
    for name in given:
        if name in ("project", "run_name") or name.startswith("trackio_"):
            yield name, f"training.{name} has no effect without training.report_to."


def _learning_rate(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if training.get("learning_rate") == 0:
        said = "training.learning_rate is 0: no step changes the model."
        yield "learning_rate", said


def _model_alone(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if training.get("save_only_model"):
        said = "training.save_only_model: the run can't be resumed from its checkpoints."
        yield "save_only_model", said


def _warmup(training: Mapping[str, Any], num_steps: int) -> Iterator[FieldProblem]:
    asked, kind = training.get("warmup_steps", 0), training["lr_scheduler_type"]
    if not asked or kind in ("constant", *FOLLOW_EVALUATIONS):
        return
    # As `TrainingArguments.get_warmup_steps` has it.
    steps = int(asked) if asked >= 1 else math.ceil(num_steps * asked)
    if steps < num_steps:
        return
    # The rate of a step is that of how many were before it, but for one schedule.
    last = num_steps if kind == "cosine_warmup_with_min_lr" else num_steps - 1
    given = short_value(asked) if asked >= 1 else f"{asked}, {count(steps, 'step')}"
    yield (
        "warmup_steps",
        f"training.warmup_steps is {given}, and the run has {count(num_steps, 'step')}: it gets no "
        f"further than {percent(last / steps, decimals=0)} of training.learning_rate.",
    )


def _intervals(
    given: Mapping[str, Any], training: Mapping[str, Any], num_steps: int
) -> Iterator[FieldProblem]:
    best = "load_best_model_at_end"
    for kind, comes_of_it in (
        ("logging", "no loss is logged."),
        (
            "eval",
            "held-out text is measured after the last step alone"
            + (f", and training.{best} keeps the last model." if training.get(best) else "."),
        ),
        ("save", "the last step's checkpoint is the only one."),
    ):
        every = given.get(f"{kind}_steps", 0)
        if training[f"{kind}_strategy"] == "steps" and every > num_steps:
            yield (
                f"{kind}_steps",
                f"training.{kind}_steps is {every:,}, and the run has {count(num_steps, 'step')}: "
                f"{comes_of_it}",
            )


def _averaging(
    training: Mapping[str, Any], num_steps: int, num_epochs: float | None
) -> Iterator[FieldProblem]:
    """Fewer checkpoints than a mean is to be of."""
    number, every = training.get("average_checkpoints"), training["save_steps"]
    saved: float = math.ceil(num_steps / (every if every >= 1 else math.ceil(num_steps * every)))
    if training["save_strategy"] == "epoch":
        saved = math.inf if num_epochs is None else math.ceil(num_epochs)
    if number and saved < number:
        yield (
            "average_checkpoints",
            f"training.average_checkpoints is {number:,}, and the run saves "
            f"{count(int(saved), 'checkpoint')}: the model is "
            + ("the mean of those." if saved > 1 else "that of the last step."),
        )


def _patience(
    training: Mapping[str, Any], num_steps: int, num_epochs: float | None
) -> Iterator[FieldProblem]:
    """Too few evaluations to lose patience."""
    every, patience = _eval_steps(training), training.get("early_stopping_patience")
    measured: float = num_steps // (every if every >= 1 else math.ceil(num_steps * every))
    if training["eval_strategy"] == "epoch":
        measured = math.inf if num_epochs is None else math.ceil(num_epochs)
    if patience and measured <= patience:
        yield (
            "early_stopping_patience",
            f"training.early_stopping_patience is {patience:,}, and the run has "
            f"{count(int(measured), 'evaluation')}: it can't end early.",
        )


def _eval_steps(training: Mapping[str, Any]) -> float:
    steps: float = training.get("eval_steps") or training["logging_steps"]
    return steps


def _delay(
    training: Mapping[str, Any], num_steps: int | None, num_epochs: float | None
) -> Iterator[FieldProblem]:
    delay, strategy = training.get("eval_delay", 0), training["eval_strategy"]
    length = {"steps": num_steps, "epoch": num_epochs}.get(strategy)
    if length is not None and delay > length:
        unit = "step" if strategy == "steps" else "epoch"
        kept = training.get("load_best_model_at_end")
        yield (
            "eval_delay",
            f"training.eval_delay is {delay:,}, and the run has {length:,g} {unit}"
            f"{'s' * (length != 1)}: held-out text isn't measured in it"
            + (", and training.load_best_model_at_end keeps the last model." if kept else "."),
        )


def _best_model(given: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """The best of all evaluations is kept only where there is a checkpoint of each."""
    saves, every = given.get("save_steps"), _eval_steps(training)
    by_steps = training["eval_strategy"] == training["save_strategy"] == "steps"
    if training.get("load_best_model_at_end") and by_steps and saves and saves != every:
        yield (
            "save_steps",
            f"training.save_steps is {saves:,}, and training.eval_steps {every:,}: a model that is "
            "best between two checkpoints isn't kept.",
        )


def _batch(given: Mapping[str, Any], num_blocks: int, num_processes: int) -> Iterator[FieldProblem]:
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    size, accumulation = given.get(names[0], 8), given.get(names[1], 1)
    blocks = size * accumulation * num_processes
    name = next(filter(given.get, reversed(names)), None)
    if name is not None and blocks > num_blocks:
        yield (
            name,
            f"A step is to take {count(blocks, 'block')} (training.{names[0]} {size:,}, "
            f"{names[1]} {accumulation:,}), and the text has {num_blocks:,}: it takes those.",
        )
