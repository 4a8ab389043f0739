"""`gptft score`: a model and a text -> how well it predicts every token, and all of them."""

from pathlib import Path
from typing import Annotated

from typer import Option

from gptft.cli.options import DTYPE, MODEL, AsJson, DtypeName, UseCpu, Words, text_argument
from gptft.console import notice, result, result_json


def score(
    model: Annotated[str, MODEL],
    text: Words = [],
    file: Annotated[
        Path | None, Option("--file", "-f", metavar="PATH", help="A text file.")
    ] = None,
    dtype: Annotated[DtypeName, DTYPE] = "auto",
    use_cpu: UseCpu = False,
    as_json: AsJson = False,
) -> None:
    """Show how surprised a model is by TEXT: every token, perplexity, bits per byte.

    Without TEXT and --file the text comes from standard input.
    """
    from gptft import api
    from gptft.analysis.text_view import text_score_summary, text_view
    from gptft.models.source import resolve_model

    resolve_model(model)  # before the text is read and the seconds that loading takes
    content = text_argument(text, file, example='gptft score pico "Мороз и солнце"')
    scored = api.score(model, content, dtype=dtype, use_cpu=use_cpu)
    if not scored.lossless:
        notice(
            f"The tokenizer of {model} doesn't keep this text byte for byte. "
            "Scored is what its tokens spell, by the bytes of the text."
        )
    if as_json:
        result_json(scored)
    else:
        result(text_view(scored.tokens), "", text_score_summary(scored))
