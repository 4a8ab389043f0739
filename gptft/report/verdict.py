"""A run -> whether it got worse on held-out text, which step's model was kept, what to change."""

import math

from gptft.runs.held_out import held_out_curve
from gptft.runs.read import Point, Run, as_float, as_int, as_mapping

_TURNED = 1.02  # times the lowest loss: below it a rise may be the noise of a small held-out part
_VISIBLE = 0.001  # nats a token: three decimals are shown


def validation_curve(run: Run) -> list[Point]:
    """Held-out loss by step; see `held_out_curve`."""
    return held_out_curve(run.curve("eval_loss"), run.validation, model_step=run.model_step)


def kept_model(run: Run) -> str:
    """Which step's model a finished run kept, in words; nothing where that isn't known."""
    if not run.is_finished or (step := run.model_step) is None:
        return ""
    if step == run.steps:
        return f"that of step {step:,}, the last{_averaged(run)}"
    last = f"and not of step {run.steps:,}{_averaged(run)}"
    return f"that of step {step:,}, the best on held-out text, {last}"


def _averaged(run: Run) -> str:
    """That the model kept is a mean of weights, in words; nothing where it isn't."""
    averaged = as_mapping(run.result.get("averaged"))
    if (decay := as_float(averaged.get("ema_decay"))) is not None:
        return f": the moving average of its weights (training.ema_decay: {decay:g})"
    if isinstance(steps := averaged.get("checkpoints"), list):
        return f": the mean of the checkpoints of steps {', '.join(f'{one:,}' for one in steps)}"
    return ""


def overfitting(run: Run) -> str:
    """A sentence where held-out loss ended well above its lowest, else nothing."""
    turn = _turn(run)
    if turn is None:
        return ""
    (step, best), (_, last) = turn
    where, what = "before training", "the model got worse on text that it isn't trained on"
    if step:
        where = f"at step {step:,}"
        what = "after that step the model mostly memorized its training text"
    kept = " The model of that step was kept." if step and step == run.model_step else ""
    return f"Held-out loss was lowest {where}, {best:.3f}, and ended at {last:.3f}: {what}.{kept}"


def diverged(run: Run) -> str:
    """A sentence where a run ended worse on the text it was trained on, else nothing."""
    before, after = (run.train.loss_before, run.train.loss_after) if run.train else (None, None)
    if before is None or after is None or after <= before * _TURNED:
        return ""
    rate = as_float(run.section("training").get("learning_rate"))
    lower = "training.learning_rate" if rate is None else f"training.learning_rate, {rate:g}"
    return (
        f"The model got worse on the very text it was trained on: loss {before:,.3f} before and "
        f"{after:,.3f} after. Lower {lower}."
    )


def advice(run: Run) -> str:
    """What to do where the model that was kept isn't the best one, else nothing."""
    turn = _turn(run)
    if turn is None or turn[0][0] == run.model_step:
        return ""
    best, training = turn[0][0], run.section("training")
    said = []
    if best:
        checkpoint = as_mapping(run.result.get("best")).get("checkpoint")
        is_mean = "ema_decay" in as_mapping(run.result.get("averaged"))
        beside = ", its weights before averaging, and their average in moving_average/" * is_mean
        holds = f"{run.path}/{checkpoint} holds the model of step {best:,}{beside}."
        said.append(holds if checkpoint else f"No checkpoint of step {best:,} was kept.")
    ways = [_train_less(run, best) if best else "lower training.learning_rate"]
    if not training.get("load_best_model_at_end"):
        keep = "training.load_best_model_at_end: true"
        if training.get("eval_strategy", "no") == "no":
            keep += ", with training.eval_strategy: epoch and training.save_strategy: best"
        elif training.get("save_strategy", "steps") != training["eval_strategy"]:
            keep += ", with training.save_strategy: best"
        ways.append(f"keep the best step's model by {keep}")
    ways.append("train on more text")
    return " ".join([*said, f"What helps: {'; '.join(ways)}."])


def last_words(run: Run) -> list[str]:
    """What someone should know who sees a run end: that it got worse, and what to change."""
    return [sentence for sentence in (diverged(run), overfitting(run), advice(run)) if sentence]


def _turn(run: Run) -> tuple[Point, Point] | None:
    """The lowest and the last point of the held-out curve, where the rise means something."""
    points = [point for point in validation_curve(run) if math.isfinite(point[1])]
    if len(points) < 2:
        return None
    best, last = min(points, key=lambda point: point[1]), points[-1]
    least = best[1] * _TURNED if best[0] else best[1] + _VISIBLE
    return (best, last) if last[1] > least else None


def _train_less(run: Run, best: int) -> str:
    """The setting that ends a run at its best step."""
    training = run.section("training")
    if (as_int(training.get("max_steps")) or -1) > 0:
        return f"fewer steps (training.max_steps: {best})"
    epochs = as_float(training.get("num_train_epochs")) or 3.0  # the class's default
    fewer = epochs * best / max(run.steps or best, 1)
    return f"fewer epochs (training.num_train_epochs: {fewer:.2g}, not {epochs:g})"
