"""A prediction -> one self-contained page of it: every step's likeliest tokens, with bars."""

from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.prediction_view import entropy_in_words, kept_name
from gptft.analysis.score_view import short_name
from gptft.report.render import render
from gptft.terminal.words import count, probability

if TYPE_CHECKING:
    from gptft.analysis.predict import PredictedStep, Prediction

_MOST_STEPS = 500  # on a page: with ten tokens each it stays below 5 MB


class _Bar(NamedTuple):
    """A probability, and how long its bar is, as a share in CSS."""

    shown: str
    size: str


class _Row(NamedTuple):
    """A token that may come next.

    Attributes:
        text: as `gptft tokenize` shows it.
        token_id: the token.
        bars: of the model, and of the other one, if any.
        outcome: its probability after all processors, or what removed it; "" without processors.
        style: a class of the stylesheet.
    """

    text: str
    token_id: int
    bars: tuple[_Bar, ...]
    outcome: str
    style: str


class _Step(NamedTuple):
    """A step on the page.

    Attributes:
        before: the text it continues.
        chosen: what was appended to it.
        label: the token that was, as `gptft tokenize` shows it.
        entropy: how open the step is, in words.
        kept: what each processor leaves: its name, tokens before and after it, probability kept.
        rows: the likeliest tokens.
    """

    before: str
    chosen: str
    label: str
    entropy: str
    kept: list[tuple[str, str, str, str]]
    rows: list[_Row]


def prediction_html(prediction: "Prediction") -> str:
    """The page."""
    names = [short_name(prediction.model)]
    if prediction.other_model is not None:
        other = short_name(prediction.other_model)
        names = [*names, other] if other != names[0] else [prediction.model, prediction.other_model]
    text = prediction.steps[-1].text_after
    given = prediction.prompt if text.startswith(prediction.prompt) else ""
    steps = [_step(prediction, step) for step in prediction.steps[:_MOST_STEPS]]
    return render(
        "prediction.html.j2", prediction=prediction, steps=steps, names=names,
        settings=prediction.settings.sentence(), num_steps=count(len(prediction.steps), "step"),
        given=given, added=text.removeprefix(given),
    )  # fmt: skip


def _step(prediction: "Prediction", step: "PredictedStep") -> _Step:
    likeliest = max(max(row.probability, row.other_probability or 0.0) for row in step.rows) or 1.0
    rows = []
    for row in step.rows:
        values = [row.probability]
        if row.other_probability is not None:
            values.append(row.other_probability)
        bars = tuple(_Bar(probability(p), f"{100 * p / likeliest:.4g}%") for p in values)
        after = f"cut by {row.cut_by}" if row.cut_by else probability(row.final_probability)
        style = "chosen" if row.token_id == step.chosen else "cut" if row.cut_by else ""
        rows.append(_Row(row.text, row.token_id, bars, after if step.kept else "", style))
    kept = [
        (
            kept_name(prediction, one), f"{one.num_before:,}", f"{one.num_after:,}",
            probability(one.probability),
        )
        for one in step.kept
    ]  # fmt: skip
    label = next((row.text for row in step.rows if row.token_id == step.chosen), "")
    # Where a token completes a character, the text before it isn't the beginning of that after it.
    is_longer = step.text_after.startswith(step.text) and step.text_after != step.text
    chosen = step.text_after.removeprefix(step.text) if is_longer else label
    return _Step(step.text, chosen, label, entropy_in_words(prediction, step), kept, rows)
