"""A prediction -> what a person sees of it: every step's likeliest tokens, with bars."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from gptft.analysis.text_view import exact
from gptft.terminal.cells import cut, fit_end
from gptft.terminal.draw import GAP, Cell, Drawn, Table, bar, plain_lines
from gptft.terminal.words import probability, short_value

if TYPE_CHECKING:
    from gptft.analysis.predict import Kept, PredictedStep, PredictedToken, Prediction

_BAR = "color(31)"
_MAX_TOKEN = 24  # cells
_WIDE = 60  # cells of a terminal that has room for ids
_UNLIMITED = 10**6  # cells, off a terminal


def prediction_view(prediction: "Prediction") -> Drawn:
    """How a model would continue a prompt, step by step, with bars on a terminal.

    Off a terminal it is lines with tabs a step, each under a heading, after what is said of it.
    """

    def draw(console: Console, width: int) -> Iterator[RenderableType | Segment | Table]:
        for number, step in enumerate(prediction.steps):
            about = _about(prediction, step)
            if console.is_terminal:
                yield from [""] * bool(number)
                yield Text(_headline(prediction, number, width=width), "bold")
                yield from (Text(words, "dim") for words in about)
                yield _bars(step, width=width, names=(prediction.model, prediction.other_model))
            else:
                headline = _headline(prediction, number, width=_UNLIMITED)
                yield plain_lines([*[""] * bool(number), headline, *about])
                yield _exact_table(step, other_model=prediction.other_model)
        if console.is_terminal and len(prediction.steps) > 1:
            yield Text(f"\n{fit_end(prediction.steps[-1].text_after, width)}", "bold")

    return Drawn(draw)


def _headline(prediction: "Prediction", number: int, *, width: int) -> str:
    """The number of a step and the end of the text it continues."""
    several = len(prediction.steps) > 1
    position = f"{number + 1} of {len(prediction.steps)}: " if several else ""
    return f"{position}{fit_end(prediction.steps[number].text, max(width - len(position), 8))}"


def _about(prediction: "Prediction", step: "PredictedStep") -> Iterator[str]:
    """What there is to say of a step besides its tokens."""
    yield entropy_in_words(prediction, step)
    for kept in step.kept:
        name = kept_name(prediction, kept)
        if kept.num_after == kept.num_before:
            yield f"{name} keeps all {kept.num_before:,} tokens"
        else:
            yield (
                f"{name} keeps {kept.num_after:,} of {kept.num_before:,} tokens, "
                f"{probability(kept.probability)} of the probability"
            )


def entropy_in_words(prediction: "Prediction", step: "PredictedStep") -> str:
    """How open a step is, for each model."""
    bits = step.entropy_bits
    number_alike = f"{2**bits:,.1f}" if bits < 6 else f"{2**bits:,.0f}"
    words = f"entropy {bits:.2f} bits, like {number_alike} equally likely tokens"
    if step.other_entropy_bits is not None:
        words += f"; {_tail(str(prediction.other_model))}: {step.other_entropy_bits:.2f} bits"
    return words


def kept_name(prediction: "Prediction", kept: "Kept") -> str:
    """A processor with its value."""
    value = prediction.settings.values.get(kept.name)
    return kept.name if value is None else f"{kept.name} {short_value(value)}"


def _exact_table(step: "PredictedStep", *, other_model: str | None) -> Table:
    """Probabilities in full, for a script."""
    heads = ["token", "id", "probability", *["after", "cut by"] * bool(step.kept)]
    others = [] if other_model is None else [other_model]
    rows = [
        (
            row.text,
            str(row.token_id),
            exact(row.probability),
            *([exact(row.final_probability), row.cut_by or ""] if step.kept else []),
            *[exact(row.other_probability)] * len(others),
        )
        for row in step.rows
    ]
    return Table(rows, "l" * (len(heads) + len(others)), heads=[*heads, *others])


def _bars(step: "PredictedStep", *, width: int, names: tuple[str, str | None]) -> Table:
    """A line a token, with bars that fill what the columns leave of `width`.

    The longest bar is the likeliest token's; two models share one scale.
    """
    models = [name for name in names if name is not None]
    bare = _bars_table(step, width=width, models=models, bar_width=0)
    gaps = len(GAP) * (len(bare.align) - 1 + len(models))
    bar_width = (width - sum(bare.widths(width)) - gaps) // len(models)
    if bar_width < 1:
        return bare
    return _bars_table(step, width=width, models=models, bar_width=bar_width)


def _bars_table(step: "PredictedStep", *, width: int, models: list[str], bar_width: int) -> Table:
    shows_ids, compared = width >= _WIDE, len(models) > 1
    scale = max(max(row.probability, row.other_probability or 0.0) for row in step.rows) or 1.0
    rows: list[list[Cell]] = []
    for row in step.rows:
        chosen = "bold" if row.token_id == step.chosen else ""
        cells: list[Cell] = [Text(cut(row.text, _MAX_TOKEN), chosen)]
        cells += [str(row.token_id)] * shows_ids
        for likely in (row.probability, row.other_probability or 0.0)[: len(models)]:
            cells.append(probability(likely))
            if bar_width:
                style = "" if row.cut_by is not None else _BAR
                cells.append(Text(bar(likely / scale, width=bar_width), style))
        cells += [_outcome(row, width=width // 3)] * bool(step.kept)
        rows.append(cells)
    heads, align = ["token", *["id"] * shows_ids], "cr" if shows_ids else "c"
    for name in models:
        if bar_width:
            heads += ["" if compared else "prob", cut(_tail(name), bar_width) if compared else ""]
        else:
            heads.append(cut(_tail(name), 6) if compared else "prob")
        align += "rn" if bar_width else "r"
    styles = ["dim" if row.cut_by is not None else "" for row in step.rows]
    heads += ["after"] * bool(step.kept)
    return Table(rows, align + "c" * bool(step.kept), heads=heads, styles=styles)


def _outcome(row: "PredictedToken", *, width: int) -> str:
    """What the processors made of a token: its probability, or which of them removed it."""
    if row.cut_by is None:
        return probability(row.final_probability)
    long = f"cut by {row.cut_by}"
    return long if len(long) <= width else row.cut_by


def _tail(name: str) -> str:
    """The last part of a model's name or path."""
    return name.rstrip("/").rsplit("/", 1)[-1] or name
