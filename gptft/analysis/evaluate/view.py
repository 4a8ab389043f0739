"""Models side by side on documents -> what a terminal and a page show of it."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from gptft.analysis.evaluate.bootstrap import NUM_RESAMPLES, Interval
from gptft.analysis.evaluate.results import Evaluation, ModelScores, TaskFigure
from gptft.terminal.draw import Drawn, Table, columns_or_lines, stacked
from gptft.terminal.text import escaped, quoted
from gptft.terminal.words import count, percent

_QUOTED = 60  # characters of a hard document that are shown
_MAX_SOURCES = 20
NOTHING = "-"

Rows = list[list[str]]


def evaluation_view(found: Evaluation) -> Drawn:
    """A row a model, then the sources, the hardest documents, and how well it is calibrated."""
    parts: list[RenderableType] = [columns_or_lines(Table(
        model_rows(found), "lrrrrrrr", title=title(found), heads=model_heads(found)
    ))]  # fmt: skip
    rows = source_rows(found)
    if len(rows) > 1:
        shown = rows[:_MAX_SOURCES]
        more = f", the hardest {len(shown)} of {len(rows):,}" if len(rows) > len(shown) else ""
        heads = ("source", "documents", *_names(found))
        align, name = "lr" + "r" * len(found.models), f"Bits a byte by source{more}"
        parts.append(columns_or_lines(Table(shown, align, title=name, heads=heads)))
    for one in found.models:
        if one.hardest and len(found.table) > 1:
            heads = ("bits a byte", "tokens", "where", "text")
            rows = [[*row[:-1], quoted(row[-1], at_most=_QUOTED)] for row in hard_rows(found, one)]
            of = f"Hardest for {escaped(one.model)}"
            parts.append(Table(rows, "rrll", title=of, heads=heads))
    if len(found.models) == 1:
        heads = ("p of the likeliest token", "tokens", "mean p", "was the next")
        rows = calibration_rows(found.models[0])
        parts.append(Table(rows, "lrrr", title="Calibration", heads=heads))
    return stacked(*parts)


def task_rows(figures: Sequence[TaskFigure]) -> Rows:
    """A row a figure of lm-evaluation-harness."""
    return [
        [
            escaped(one.model),
            escaped(one.task),
            NOTHING if one.num_fewshot is None else str(one.num_fewshot),
            escaped(one.metric),
            number(one.value, digits=4),
            number(one.standard_error, digits=4),
        ]
        for one in figures
    ]


def task_view(figures: Sequence[TaskFigure]) -> Drawn:
    """A row a figure of lm-evaluation-harness, for a terminal."""
    heads = ("model", "task", "shots", "metric", "value", "standard error")
    return columns_or_lines(Table(task_rows(figures), "llrlrr", heads=heads))


def title(found: Evaluation) -> str:
    """What was read, in a line."""
    num_bytes = int(found.models[0].num_bytes.sum())
    sources = len([*found.table.by_source()])
    return (
        f"{count(len(found.table), 'document')} of {count(sources, 'source')}, "
        f"{count(num_bytes, 'byte')}"
    )


def notes(found: Evaluation) -> Iterator[str]:
    """Sentences on how the figures are to be read."""
    if len(found.table) > 1:
        yield (
            f"In brackets: the 95% interval over {NUM_RESAMPLES:,} draws of the documents (seed "
            f"{found.seed})."
        )
    else:
        yield (
            "One document is no sample, so there is no interval. Where it holds several, cut it "
            "with --set data.document_separator."
        )
    if len({one.figures().num_tokens for one in found.models}) > 1:
        yield (
            "Loss and perplexity are by the token, and these models cut the text differently: "
            "compare their bits a byte."
        )
    if len(found.models) > 1 and len({one.figures().num_bytes for one in found.models}) > 1:
        yield "A model without BOS and EOS predicts no first token, so it was measured on less."
    if found.counts_eos:
        yield "EOS after each document is a token that is predicted, and no byte."


def model_heads(found: Evaluation) -> tuple[str, ...]:
    """The names of the columns of `model_rows`."""
    difference = "less the first" if len(found.models) > 1 else "bits a character"
    last = "bits a character" if len(found.models) > 1 else "right"
    return ("model", "bits a byte", difference, last, "loss", "perplexity", "tokens", "ECE")


def model_rows(found: Evaluation) -> Rows:
    """A row a model."""
    rows = []
    for at, (one, interval) in enumerate(zip(found.models, found.intervals, strict=True)):
        figures, calibration = one.figures(), one.calibration
        row = [escaped(one.model), with_interval(figures.bits_per_byte, interval)]
        if len(found.models) > 1:
            difference = with_interval(found.difference(at), found.differences[at], signed="+")
            row.append(difference if at else NOTHING)
        row.append(number(figures.bits_per_character))
        if len(found.models) == 1:
            row.append(percent(calibration.accuracy))
        row += [number(figures.loss), number(figures.perplexity, digits=2)]
        row += [f"{figures.num_tokens:,}", number(calibration.expected_error)]
        rows.append(row)
    return rows


def source_rows(found: Evaluation) -> Rows:
    """A row a source, the hardest for the first model first: documents, bits a byte by model."""
    return [
        [escaped(name), f"{documents:,}", *(number(one.bits_per_byte) for one in figures)]
        for name, documents, figures in found.sources()
    ]


def hard_rows(found: Evaluation, one: ModelScores) -> Rows:
    """A row each of the documents that a model finds hardest, with the start of its text."""
    return [
        [
            number(one.of_document(at).bits_per_byte),
            f"{one.of_document(at).num_tokens:,}",
            escaped(found.table.place(at)),
            text,
        ]
        for at, text in one.hardest
    ]


def calibration_rows(one: ModelScores) -> Rows:
    """A row a tenth of probability: tokens, how sure the model was, how often it was right."""
    return [
        [
            f"{it.low:.1f} to {it.high:.1f}",
            f"{it.num_tokens:,}",
            number(it.confidence),
            number(it.accuracy),
        ]
        for it in one.calibration.bins
    ]


def number(value: float | None, *, digits: int = 3, signed: str = "") -> str:
    """A figure, or a dash where there is none.

    >>> number(1.23456), number(None), number(0.5, signed="+"), number(float("inf"))
    ('1.235', '-', '+0.500', 'inf')
    """
    return NOTHING if value is None else f"{value:{signed},.{digits}f}"


def with_interval(value: float | None, interval: Interval | None, *, signed: str = "") -> str:
    """A figure and its interval.

    >>> with_interval(1.1299, Interval(1.047, 1.2109)), with_interval(-0.02, None, signed="+")
    ('1.130 (1.047 to 1.211)', '-0.020')
    """
    shown = number(value, signed=signed)
    if interval is None:
        return shown
    low, high = (number(end, signed=signed) for end in interval)
    return f"{shown} ({low} to {high})"


def _names(found: Evaluation) -> Sequence[str]:
    return [escaped(one.model) for one in found.models]
