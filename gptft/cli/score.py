"""`gptft score`: a model and a text -> how well it predicts every token, and all of them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from gptft.cli.options import AsJson, UseCpu


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
    from gptft.console import notice, result, result_json
    from gptft.models.source import resolve_model

    resolve_model(model)  # before the text is read and the seconds that loading takes
    content = _read(text or [], file)

    from gptft.analysis.score import text_score
    from gptft.analysis.text_view import text_score_summary, text_view

    scored = text_score(model, content, dtype=dtype, use_cpu=use_cpu)
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


def _read(words: Sequence[str], file: Path | None) -> str:
    """The text to score, from the one place that gives one."""
    from gptft.errors import ConfigError
    from gptft.text.encoding import read_stdin, read_text

    if words and file:
        raise ConfigError("TEXT and --file are both given. Give one of them.")
    if words:
        return " ".join(words)
    if file:
        return read_text(file)
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            'There is no text. Give one (gptft score pico "Мороз и солнце"), name a file with '
            "--file, or send one to standard input."
        )
    return read_stdin()
