"""`gptft score`: a model and a text -> how well it predicts every token, and all of them."""

from pathlib import Path
from typing import Annotated

from typer import Option

from gptft.cli.options import (
    DTYPE,
    MODEL,
    AsJson,
    DtypeName,
    Lang,
    OverwritePage,
    UseCpu,
    Words,
    text_argument,
)
from gptft.console import notice, result, result_json
from gptft.terminal.words import count

_RUNNERS_UP = 5  # shown of each token
_MANY_TOKENS = 10_000  # more than a person reads


def score(
    model: Annotated[str, MODEL],
    text: Words = [],
    file: Annotated[
        Path | None, Option("--file", "-f", metavar="PATH", help="A text file.")
    ] = None,
    summary: Annotated[
        bool, Option("--summary", help="Only what the text comes to, not its tokens.")
    ] = False,
    other: Annotated[
        str | None,
        Option("--with", metavar="OTHER", help="A model to compare by token, or base for its own."),
    ] = None,
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write the text in colours as a page, too.")
    ] = None,
    lang: Lang = None,
    overwrite: OverwritePage = False,
    dtype: Annotated[DtypeName, DTYPE] = "auto",
    use_cpu: UseCpu = False,
    as_json: AsJson = False,
) -> None:
    """Show how surprised a model is by TEXT: every token, perplexity, bits per byte.

    Without TEXT and --file the text comes from standard input. --with shows beside it how another
    model expects the text, a run's base for one.
    """
    from gptft import api
    from gptft.analysis.score_view import score_view, text_score_summary
    from gptft.models.hub import require_model

    for name in (model, other):
        if name is not None and name != "base":  # which `api.score` looks for
            require_model(name)  # before the text is read and the seconds that loading takes
    content = text_argument(text, file, example='gptft score pico "Мороз и солнце"')
    scored = api.score(
        model, content, other=other, html=html, inputs=[file] if file else [], overwrite=overwrite,
        lang=lang, dtype=dtype, use_cpu=use_cpu, notify=notice,
        num_runners_up=0 if summary and html is None else _RUNNERS_UP,
    )  # fmt: skip
    if not summary and scored.num_tokens > _MANY_TOKENS:
        notice(f"{count(scored.num_tokens, 'token')} follow; --summary leaves them out.")
    if as_json:
        result_json(scored.summary_fields() if summary else scored)
    else:
        if not summary:
            result(score_view(scored), "")
        result(text_score_summary(scored))
