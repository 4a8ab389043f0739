"""A run -> report.html, a page that shows what the run learned.

In: a run folder, finished or not. Out: one self-contained file, the same for the same run. Must not
import torch or transformers.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from gptft.data.ledger import Ledger
from gptft.report import words
from gptft.report.chart import Line, line_chart, scientific, short_number
from gptft.report.page import page
from gptft.runs.read import Point, Run, Sample, as_int, read_run, write_whole

_MAX_PROMPTS = 20  # shown
_MAX_ROUNDS = 4  # continuations shown of one prompt: before, some between, after


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run; an earlier one is replaced.

    It gives the config as it is in run.json, paths included; a secret's value isn't given.

    Returns:
        the report's path.

    Raises:
        RunError: this isn't a run, or the report can't be written.
    """
    path = run_dir / "report.html"
    write_whole(path, report(read_run(run_dir)))
    return path


def report(run: Run) -> str:
    """The report's HTML."""
    sections = (
        _results(run),
        _loss(run),
        _learning_rate(run),
        _samples(run),
        _account(run),
        _details(run),
    )
    return page(words.one_line(run.name), _header(run) + "".join(sections))


def _text(text: str) -> str:
    """Any text as HTML that shows it."""
    return escape(words.visible(text))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}</section>\n"


def _paragraph(text: str, *, style: str = "") -> str:
    """A paragraph of plain text; none where there is no text."""
    attribute = f' class="{style}"' if style else ""
    return f"<p{attribute}>{_text(text)}</p>\n" if text else ""


def _header(run: Run) -> str:
    warning = ""
    if lost := run.unreadable:
        what = "1 line" if len(lost) == 1 else f"Each of {len(lost):,} lines"
        which = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        warning = f"{what} could not be read, and is left out: {which}."
    return (
        f'<header>\n<h1 dir="auto">{_text(words.one_line(run.name))}</h1>\n'
        f"{_paragraph(words.summary(run), style='lead')}"
        f"{_paragraph(warning, style='warn')}</header>\n"
    )


def _results(run: Run) -> str:
    results = words.results(run)
    if not results:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        f"{_change(figures.loss_before, figures.loss_after, decimals=3)}"
        f"{_change(figures.perplexity_before, figures.perplexity_after, decimals=2)}</tr>\n"
        for name, figures in results
    )
    measured = "; ".join(
        f"{name} measured on {words.count(figures.num_tokens, 'token')}"
        for name, figures in results
        if figures.num_tokens is not None
    )
    note = f"{words.PERPLEXITY} Before and after training; {measured}."
    return _section(
        "Before and after",
        '<table>\n<thead><tr><td></td><th class="number" scope="col">loss</th>'
        '<th class="number" scope="col">perplexity</th></tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n",
        _paragraph(note, style="note"),
    )


def _change(before: float | None, after: float | None, *, decimals: int) -> str:
    first, last = (words.number(value, decimals=decimals) for value in (before, after))
    return f'<td class="number change">{first} → <strong>{last}</strong></td>'


def _loss(run: Run) -> str:
    train, validation = run.curve("loss"), _validation_curve(run)
    chart = line_chart(
        [
            Line("training loss", "train", train),
            Line("held-out loss", "validation", validation),
        ],
        title="Loss by step",
        shown=short_number,
    )
    if not chart:
        chart = _paragraph("No loss was logged.")
    caption = "Training loss is the mean over the steps since the last point."
    if validation:
        caption += " Held-out loss is that of text the model doesn't train on."
    return _section(
        "Loss",
        chart,
        _paragraph(_not_finite(train), style="warn"),
        _paragraph(words.overfitting(run), style="warn"),
        _paragraph(caption if train else "", style="note"),
    )


def _validation_curve(run: Run) -> list[Point]:
    """Held-out loss by step: what was logged, and what was measured before and after.

    With load_best_model_at_end the last measurement belongs to another step, and is left out.
    """
    points = dict(run.curve("eval_loss"))
    if figures := run.validation:
        if figures.loss_before is not None:
            points.setdefault(0, figures.loss_before)
        is_last = not run.section("training").get("load_best_model_at_end")
        if is_last and run.steps is not None and figures.loss_after is not None:
            points.setdefault(run.steps, figures.loss_after)
    return sorted(points.items())


def _not_finite(points: Sequence[Point]) -> str:
    bad = [step for step, value in points if not math.isfinite(value)]
    if not bad:
        return ""
    return (
        f"At {len(bad):,} of {words.count(len(points), 'log step')} the loss was not a finite "
        f"number, first at step {bad[0]:,}. A lower learning_rate, or bfloat16 in place of "
        "float16, is the usual way out."
    )


def _learning_rate(run: Run) -> str:
    chart = line_chart(
        [Line("learning rate", "rate", run.curve("learning_rate"))],
        title="Learning rate by step",
        shown=scientific,
        style="small",
        num_ticks=4,
        low=0.0,
    )
    return _section("Learning rate", chart) if chart else ""


def _samples(run: Run) -> str:
    samples = run.samples
    if not samples:
        return ""
    parts = [_sample(sample) for sample in samples[:_MAX_PROMPTS]]
    if len(samples) > _MAX_PROMPTS:
        more = f"{len(samples) - _MAX_PROMPTS:,} more prompts are in samples.jsonl."
        parts.append(_paragraph(more, style="note"))
    note = "The prompt is marked; what follows it the model wrote."
    decoding = words.decoding(run)
    return _section(
        "Samples",
        _paragraph(note + (f" Decoding: {decoding}." if decoding else ""), style="note"),
        *parts,
    )


def _sample(sample: Sample) -> str:
    shown = _spread(sample.texts, at_most=_MAX_ROUNDS)
    first, last = sample.texts[0][0], sample.texts[-1][0]
    figures = []
    for step, text in shown:
        when = f"step {step:,}"
        if step == 0:
            when = "before training"
        elif step == last and first != last:
            when += ", the last"
        body = f"<mark>{_text(sample.prompt)}</mark>{_text(text)}"
        figures.append(
            f'<figure class="sample"><figcaption>{when}</figcaption>'
            f'<div class="text" dir="auto" lang="">{body}</div></figure>\n'
        )
    left = len(sample.texts) - len(shown)
    note = f"More are in samples.jsonl: {left:,} between these." if left else ""
    return f'<div class="samples">\n{"".join(figures)}</div>\n{_paragraph(note, style="note")}'


def _spread(texts: Sequence[tuple[int, str]], *, at_most: int) -> list[tuple[int, str]]:
    """Up to `at_most` of them, evenly spread, the first and last among them."""
    if len(texts) <= at_most:
        return list(texts)
    return [texts[round(i * (len(texts) - 1) / (at_most - 1))] for i in range(at_most)]


def _account(run: Run) -> str:
    ledger = run.ledger
    if ledger is None:
        return ""
    came = [
        (f"tokens of {words.count(ledger.documents, 'document')}", ledger.tokens),
        ("EOS, one after each document", ledger.num_eos),
    ]
    went = _where_tokens_went(ledger)
    difference = sum(tokens for _, tokens in came) - sum(tokens for _, tokens in went)
    wrong = f"The two sums differ by {difference:,}." if difference else ""
    facts = "".join(f"<li>{_text(sentence)}</li>\n" for sentence in ledger.sentences())
    return _section(
        "Where every token went",
        f"<table>\n<tbody>\n{_sum('From the text', came)}{_sum('Into', went)}</tbody>\n</table>\n",
        _paragraph(wrong, style="warn"),
        f'<ul class="note">\n{facts}</ul>\n',
    )


def _where_tokens_went(ledger: Ledger) -> list[tuple[str, int]]:
    blocks = f"{words.count(ledger.num_blocks, 'block')} × {ledger.block_size:,}"
    rows = [(blocks, ledger.num_blocks * ledger.block_size)]
    if ledger.tail_tokens:
        rows.append(("a last, shorter block", ledger.tail_tokens))
    if ledger.dropped_tokens:
        rows.append(("dropped", ledger.dropped_tokens))
    if ledger.validation_documents:
        held_out = f"held out: {words.count(ledger.validation_documents, 'document')}"
        rows.append((held_out, words.validation_tokens(ledger)))
    return rows


def _sum(title: str, rows: Sequence[tuple[str, int]]) -> str:
    lines = "".join(
        f'<tr><td>{_text(name)}</td><td class="number">{tokens:,}</td></tr>\n'
        for name, tokens in rows
    )
    total = sum(tokens for _, tokens in rows)
    return (
        f'<tr><th colspan="2">{title}</th></tr>\n{lines}'
        f'<tr class="sum"><td>tokens in all</td><td class="number">{total:,}</td></tr>\n'
    )


def _details(run: Run) -> str:
    parameters = as_int(run.facts.get("num_parameters"))
    facts = [
        ("state", str(run.facts.get("state", words.NOTHING))),
        ("created", str(run.facts.get("created", words.NOTHING))),
        ("finished", str(run.facts.get("finished", words.NOTHING))),
        ("parameters", f"{parameters:,}" if parameters else words.NOTHING),
        *words.how_trained(run),
        ("block store", run.store or words.NOTHING),
    ]
    return (
        "<details>\n<summary>Settings and versions</summary>\n"
        f"<h3>Run</h3>\n{_facts(facts)}"
        f"<h3>Settings</h3>\n{_facts(words.all_settings(run))}"
        f"<h3>Versions</h3>\n{_facts(words.versions(run))}</details>\n"
    )


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>\n'
        for name, value in rows
    )
    return f'<table class="settings">\n<tbody>\n{lines}</tbody>\n</table>\n'
