"""A prompt continued by many strategies -> one page to compare them.

In: the rows of `decoding.compare`. Out: the HTML of a self-contained file, which loads and runs
nothing. Must not import torch or transformers.
"""

from collections.abc import Mapping, Sequence
from html import escape

from gptft.decoding.compare.results import Figure, Row, known_figures
from gptft.decoding.compare.view import (
    drafts_in_words,
    settings_in_words,
    stand_ins_in_words,
    without_line_ends,
)
from gptft.decoding.strategies import STRATEGIES
from gptft.report import words
from gptft.report.page import page

_STOPPED = {
    "eos": "The model ended the text.",
    "length": "Cut at its length.",
    "stop_string": "Ended before a stop string.",
}
_NOTE = (
    "The best of each column is marked, and none of them is a verdict. The likeliest text is often "
    "a dull one, the most varied one may be noise, and short texts vary more than long ones."
)

Best = Mapping[str, frozenset[int]]


def comparison_html(rows: Sequence[Row], *, model: str, prompt: str) -> str:
    """The page.

    Args:
        rows: see `decoding.compare.compare`.
        model: what to call the model.
        prompt: that was continued.
    """
    figures = known_figures(rows)
    best = {figure.name: figure.best_of(rows) for figure in figures}
    title = "One prompt, " + ("1 strategy" if len(rows) == 1 else f"{len(rows)} strategies")
    cards = "".join(_card(i, row, figures, best) for i, row in enumerate(rows))
    body = (
        f'<header>\n<h1>{title}</h1>\n<p class="lead">{_text(words.one_line(model))} goes on from '
        f"{'' if prompt else 'nothing: the prompt is empty.'}</p>\n"
        f'<div class="text from" dir="auto" lang="">{_text(prompt)}</div>\n</header>\n'
        f"{_overview(rows, figures, best)}"
        f'<section class="cards">\n{cards}</section>\n'
    )
    return page(f"{title}: {words.one_line(model)}", body).replace(
        "</style>", f"{_STYLE}</style>", 1
    )


def _text(text: str) -> str:
    """Any text as HTML that shows it."""
    return escape(words.visible(text))


def _overview(rows: Sequence[Row], figures: Sequence[Figure], best: Best) -> str:
    """The measures of all rows below one another; a row's name leads to its card."""
    heads = "".join(
        f'<th class="number" scope="col" title="{escape(figure.meaning)}">{figure.title}</th>'
        for figure in figures
    )
    lines = "".join(
        f'<tr><th scope="row"><a href="#s{i}">{_text(words.one_line(row.label))}</a></th>'
        f"{_numbers(i, row, figures, best)}</tr>\n"
        for i, row in enumerate(rows)
    )
    meanings = "".join(
        f"<li><strong>{figure.title}</strong>: {escape(figure.meaning)}, "
        f"{'the highest' if figure.better > 0 else 'the lowest'} is best</li>\n"
        for figure in figures
    )
    return (
        '<section class="wide">\n<table class="overview">\n<thead><tr><th scope="col">strategy</th>'
        f'<th class="number" scope="col">tokens</th>{heads}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody>\n</table>\n</section>\n"
        f'<ul class="note">\n{meanings}</ul>\n<p class="note">{_NOTE}</p>\n'
    )


def _numbers(i: int, row: Row, figures: Sequence[Figure], best: Best) -> str:
    if row.written is None:
        return f'<td colspan="{len(figures) + 1}">left out</td>'
    cells = "".join(
        f'<td class="number{" best" if i in best[figure.name] else ""}">{figure.shown(row)}</td>'
        for figure in figures
    )
    return f'<td class="number">{row.written.num_new_tokens:,}</td>{cells}'


def _card(i: int, row: Row, figures: Sequence[Figure], best: Best) -> str:
    """A strategy: what it is, what it was told, what it wrote and how that measures."""
    strategy = STRATEGIES[row.entry.strategy]
    label = _text(words.one_line(row.label))
    kind = "" if row.label == strategy.name else f" <small>{escape(strategy.name)}</small>"
    about = f"{escape(strategy.description)} <cite>{escape(strategy.source)}</cite>"
    told = (settings_in_words(row), stand_ins_in_words(row))
    parts = [f"<h2>{label}{kind}</h2>\n", f'<p class="note">{about}</p>\n']
    parts += [f'<p class="told">{_text(said)}</p>\n' for said in told if said]
    if row.written is None:
        parts.append(f'<p class="warn">{_text(row.left_out or "")}</p>\n')
    else:
        text, ends = without_line_ends(row.written.continuation)
        parts.append(
            f'<div class="text" dir="auto" lang=""><span class="given">{_text(row.prompt)}</span>'
            f'{_text(text)}<span class="given">{ends}</span></div>\n'
        )
        parts.append(_measures(i, row, figures, best))
    return f'<article class="sample" id="s{i}">\n{"".join(parts)}</article>\n'


def _measures(i: int, row: Row, figures: Sequence[Figure], best: Best) -> str:
    written = row.written
    if written is None:
        return ""
    cells = "".join(
        f'<div class="{"best" if i in best[figure.name] else ""}" title="{escape(figure.meaning)}">'
        f"<dt>{figure.title}</dt><dd>{figure.shown(row)}</dd></div>\n"
        for figure in figures
        if figure.of(row) is not None
    )
    ended = _STOPPED.get(written.stopped, "")
    drafts = drafts_in_words(row)
    said = f"{ended} {drafts[:1].upper()}{drafts[1:]}{'.' if drafts else ''}".strip()
    return (
        f'<dl class="figures">\n<div><dt>tokens</dt><dd>{written.num_new_tokens:,}</dd></div>\n'
        f'{cells}</dl>\n<p class="note">{_text(said)}</p>\n'
    )


_STYLE = """\
.from { border-left: 3px solid var(--train); padding-left: .9rem; }
.wide { overflow-x: auto; margin: 2rem 0 1rem; }
.overview { font-size: .9rem; margin: 0; white-space: nowrap; }
.overview th, .overview td { padding: .25rem 1.25rem .25rem 0; }
.overview th:first-child { position: sticky; left: 0; background: var(--paper); }
.overview a { color: inherit; text-decoration-color: var(--rule); }
.best { color: var(--train); font-weight: 700; }
.cards { display: grid; gap: 1rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
article.sample { padding: 1rem 1.25rem; }
article h2 { margin: 0 0 .25rem; overflow-wrap: anywhere; }
article h2 small, .given { color: var(--soft); font-weight: 400; }
article .text { margin: .75rem 0; font-size: 1rem; }
cite { font-style: normal; opacity: .85; }
.told { font-size: .925rem; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: .35rem 1.5rem; margin: .5rem 0;
  font-variant-numeric: tabular-nums; }
.figures dt { color: var(--soft); font-size: .8rem; line-height: 1.2; }
.figures dd { margin: 0; font-size: .95rem; }
"""
