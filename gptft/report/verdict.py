"""A run -> whether it got worse on held-out text, which step's model was kept, what to change."""

import math

from gptft.report.language import Words
from gptft.runs.held_out import RISEN, held_out_curve
from gptft.runs.read import Point, Run, as_float, as_int, as_mapping

_VISIBLE = 0.001  # nats a token: three decimals are shown


def validation_curve(run: Run) -> list[Point]:
    """Held-out loss by step; see `held_out_curve`."""
    return held_out_curve(run.curve("eval_loss"), run.validation, model_step=run.model_step)


def kept_model(run: Run, w: Words) -> str:
    """Which step's model a finished run kept, in words; nothing where that isn't known."""
    if not run.is_finished or (step := run.model_step) is None:
        return ""
    how = {"step": w.whole(step), "last": w.whole(run.steps or 0), "mean": _averaged(run, w)}
    return w.say("kept_last" if step == run.steps else "kept_best", **how)


def _averaged(run: Run, w: Words) -> str:
    """That the model kept is a mean of weights, in words; nothing where it isn't."""
    averaged = as_mapping(run.result.get("averaged"))
    if (decay := as_float(averaged.get("ema_decay"))) is not None:
        return w.say("kept_average", decay=f"{decay:g}")
    if isinstance(steps := averaged.get("checkpoints"), list):
        return w.say("kept_mean", steps=", ".join(map(w.whole, steps)))
    return ""


def overfitting(run: Run, w: Words) -> str:
    """A sentence where held-out loss ended well above its lowest, else nothing."""
    turn = _turn(run)
    if turn is None:
        return ""
    (step, best), (_, last) = turn
    figures = {"best": w.number(best, decimals=3), "last": w.number(last, decimals=3)}
    if not step:
        return w.say("turned_before", **figures)
    kept = f" {w.t['turned_kept']}" if step == run.model_step else ""
    return w.say("turned", step=w.whole(step), **figures) + kept


def diverged(run: Run, w: Words) -> str:
    """A sentence where a run ended worse on the text it was trained on, else nothing."""
    before, after = (run.train.loss_before, run.train.loss_after) if run.train else (None, None)
    if before is None or after is None or after <= before * RISEN:
        return ""
    rate = as_float(run.section("training").get("learning_rate"))
    lower = "training.learning_rate" if rate is None else f"training.learning_rate, {rate:g}"
    figures = {"before": w.local(f"{before:,.3f}"), "after": w.local(f"{after:,.3f}")}
    return w.say("diverged", what=lower, **figures)


def advice(run: Run, w: Words) -> str:
    """What to do where the model that was kept isn't the best one, else nothing."""
    turn = _turn(run)
    if turn is None or turn[0][0] == run.model_step:
        return ""
    best, training = turn[0][0], run.section("training")
    said = []
    if best:
        checkpoint = as_mapping(run.result.get("best")).get("checkpoint")
        is_mean = "ema_decay" in as_mapping(run.result.get("averaged"))
        holds = "checkpoint_holds_average" if is_mean else "checkpoint_holds"
        key = holds if checkpoint else "no_checkpoint"
        said.append(w.say(key, checkpoint=f"{run.path}/{checkpoint}", step=w.whole(best)))
    ways = [_train_less(run, best, w) if best else w.t["lower_rate"]]
    if not training.get("load_best_model_at_end"):
        keep = "keep_best"
        if training.get("eval_strategy", "no") == "no":
            keep = "keep_best_evaluated"
        elif training.get("save_strategy", "steps") != training["eval_strategy"]:
            keep = "keep_best_saved"
        ways.append(w.t[keep])
    ways.append(w.t["more_text"])
    return " ".join([*said, w.say("what_helps", ways="; ".join(ways))])


def last_words(run: Run) -> list[str]:
    """What someone should know who sees a run end: that it got worse, and what to change."""
    w = Words.of("en", "report")
    return [said for said in (diverged(run, w), overfitting(run, w), advice(run, w)) if said]


def _turn(run: Run) -> tuple[Point, Point] | None:
    """The lowest and the last point of the held-out curve, where the rise means something."""
    points = [point for point in validation_curve(run) if math.isfinite(point[1])]
    if len(points) < 2:
        return None
    best, last = min(points, key=lambda point: point[1]), points[-1]
    least = best[1] * RISEN if best[0] else best[1] + _VISIBLE
    return (best, last) if last[1] > least else None


def _train_less(run: Run, best: int, w: Words) -> str:
    """The setting that ends a run at its best step, as it is to be typed."""
    training = run.section("training")
    if (as_int(training.get("max_steps")) or -1) > 0:
        return w.say("fewer_steps", steps=best)
    epochs = as_float(training.get("num_train_epochs")) or 3.0  # the class's default
    fewer = epochs * best / max(run.steps or best, 1)
    return w.say("fewer_epochs", fewer=f"{fewer:.2g}", epochs=f"{epochs:g}")
