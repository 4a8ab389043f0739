"""`gptft score`: a model and a text -> how well it predicts every token, and all of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gptft.cli.options import AsJson, UseCpu, text_argument


def score(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run folder, a model folder, a hub id, or pico."),
    ],
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Words, joined with a space.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help="A text file.")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Of the weights; auto is what the device is fast in."),
    ] = "auto",
    use_cpu: UseCpu = False,
    as_json: AsJson = False,
) -> None:
    """Show how surprised a model is by TEXT: every token, perplexity, bits per byte.

    Without TEXT and --file the text comes from standard input.
    """
    from gptft import api
    from gptft.analysis.text_view import text_score_summary, text_view
    from gptft.console import notice, result, result_json
    from gptft.models.source import resolve_model

    resolve_model(model)  # before the text is read and the seconds that loading takes
    content = text_argument(text or [], file, example='gptft score pico "Мороз и солнце"')
    scored = api.score(model, content, dtype=dtype, use_cpu=use_cpu)
    if not scored.lossless:
        notice(
            f"The tokenizer of {model} doesn't keep this text byte for byte. "
            "Scored is what its tokens spell, by the bytes of the text."
        )
    if as_json:
        result_json(scored)
        return
    result(text_view(scored.tokens))
    result("")
    result(text_score_summary(scored))
