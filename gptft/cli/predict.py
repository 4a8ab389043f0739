"""`gptft predict`: a model and a prompt -> how it would continue, token by token."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from gptft.cli import options
from gptft.cli.settings_options import given_settings, with_settings
from gptft.console import notice
from gptft.errors import ConfigError


@with_settings
def predict(
    model: Annotated[str, options.MODEL],
    prompt: Annotated[str | None, Option("--prompt", "-p", help="The text to continue.")] = None,
    steps: Annotated[
        int, Option(min=1, help="Tokens to continue by, the likeliest each time.")
    ] = 1,
    top: Annotated[int, Option(min=1, help="Tokens to show a step.")] = 10,
    other: Annotated[
        str | None,
        Option(
            "--with",
            metavar="OTHER",
            help="A model of the same vocabulary to compare, or base.",
        ),
    ] = None,
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write every step as a page, too.")
    ] = None,
    lang: options.Lang = None,
    overwrite: options.OverwritePage = False,
    strategy: options.StrategyName = None,
    config_file: options.GenerationFile = None,
    overrides: options.Overrides = [],
    dtype: Annotated[options.DtypeName | None, options.DTYPE] = None,
    use_cpu: options.UseCpu = False,
    as_json: options.AsJson = False,
    **given: Any,
) -> None:
    """Show the likeliest next tokens, and what settings make of them.

    Settings are those of gptft generate: each is shown with how many tokens it keeps, and a token
    that it removes with its name.
    """
    from gptft import api
    from gptft.analysis.prediction_view import prediction_view

    if prompt is None:
        raise ConfigError('There is no prompt. Give one: -p "Мороз и солнце".')
    config = api.generation_config(config_file, overrides=overrides)
    settings = given_settings({"strategy": strategy, **given})
    prediction = api.predict(
        model, prompt, config=config, given=settings, steps=steps, top=top, other=other,
        html=html, inputs=[config_file] if config_file else [], overwrite=overwrite,
        lang=lang, dtype=dtype, use_cpu=use_cpu, notify=notice,
    )  # fmt: skip
    options.print_result(prediction, prediction_view, as_json=as_json)
