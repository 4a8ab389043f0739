"""A prediction -> one self-contained page of it: every step's likeliest tokens, with bars."""

from typing import TYPE_CHECKING, NamedTuple

from gptft.analysis.prediction_view import kept_name
from gptft.analysis.score_view import short_name
from gptft.report.language import Words
from gptft.report.render import render
from gptft.text.scripts import PageLanguage

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


def prediction_html(prediction: "Prediction", lang: PageLanguage = "en") -> str:
    """The page, its words in a language."""
    words = Words.of(lang)
    names = [short_name(prediction.model)]
    if prediction.other_model is not None:
        other = short_name(prediction.other_model)
        names = [*names, other] if other != names[0] else [prediction.model, prediction.other_model]
    text = prediction.steps[-1].text_after
    given = prediction.prompt if text.startswith(prediction.prompt) else ""
    steps = [_step(prediction, step, words) for step in prediction.steps[:_MOST_STEPS]]
    num_steps = words.count(len(prediction.steps), "step")
    return render(
        "prediction.html.j2", prediction=prediction, steps=steps, names=names,
        settings=prediction.settings.sentence(), num_steps=num_steps,
        given=given, added=text.removeprefix(given), w=words,
    )  # fmt: skip


def _step(prediction: "Prediction", step: "PredictedStep", words: Words) -> _Step:
    likeliest = max(max(row.probability, row.other_probability or 0.0) for row in step.rows) or 1.0
    rows = []
    for row in step.rows:
        values = [row.probability]
        if row.other_probability is not None:
            values.append(row.other_probability)
        bars = tuple(_Bar(words.probability(p), f"{100 * p / likeliest:.4g}%") for p in values)
        after = words.probability(row.final_probability)
        if row.cut_by:
            after = words.say("cut_by", setting=row.cut_by)
        style = "chosen" if row.token_id == step.chosen else "cut" if row.cut_by else ""
        rows.append(_Row(row.text, row.token_id, bars, after if step.kept else "", style))
    kept = [
        (
            kept_name(prediction, one), words.whole(one.num_before), words.whole(one.num_after),
            words.probability(one.probability),
        )
        for one in step.kept
    ]  # fmt: skip
    label = next((row.text for row in step.rows if row.token_id == step.chosen), "")
    # Where a token completes a character, the text before it isn't the beginning of that after it.
    is_longer = step.text_after.startswith(step.text) and step.text_after != step.text
    chosen = step.text_after.removeprefix(step.text) if is_longer else label
    entropy = _entropy(prediction.other_model, step, words)
    return _Step(step.text, chosen, label, entropy, kept, rows)


def _entropy(other: str | None, step: "PredictedStep", words: Words) -> str:
    """How open a step is, for each model."""
    bits = step.entropy_bits
    alike = words.local(f"{2**bits:,.1f}" if bits < 6 else f"{2**bits:,.0f}")
    said = words.say("entropy", bits=words.number(bits), number=alike)
    if other is None or step.other_entropy_bits is None:
        return said
    beside = words.number(step.other_entropy_bits)
    return f"{said}; {words.say('entropy_other', model=short_name(other), bits=beside)}"
