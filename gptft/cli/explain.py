"""`gptft explain`: a model and a prompt -> what each part of the model does to the next token."""

from pathlib import Path
from typing import Annotated

from typer import Option

from gptft.cli import options
from gptft.console import notice
from gptft.errors import ConfigError


def explain(
    model: Annotated[str, options.MODEL],
    prompt: Annotated[
        str | None, Option("--prompt", "-p", help="The text to look at, of 64 tokens at most.")
    ] = None,
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write all of it as a page, too.")
    ] = None,
    base: Annotated[
        str | None,
        Option(metavar="MODEL", help="Compare with it; a run is compared with its base."),
    ] = None,
    lang: options.Lang = None,
    dtype: Annotated[options.DtypeName | None, options.DTYPE] = None,
    use_cpu: options.UseCpu = False,
    overwrite: options.OverwritePage = False,
    as_json: options.AsJson = False,
) -> None:
    """Show how a model comes to its next token, part by part.

    Tokens, their vectors, positions, attention, what each layer would say, what each part adds to
    the likeliest token, and how tuning changed it. In short here, in full with --html.
    """
    from gptft import api
    from gptft.analysis.explain.view import explanation_view

    if prompt is None:
        raise ConfigError('There is no prompt. Give one: -p "Мороз и солнце".')
    found = api.explain(
        model, prompt, base=base, html=html, lang=lang, dtype=dtype or "auto", use_cpu=use_cpu,
        overwrite=overwrite, notify=notice,
    )  # fmt: skip
    options.print_result(found, explanation_view, as_json=as_json)
