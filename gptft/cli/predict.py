"""`gptft predict`: a model and a prompt -> how it would continue, token by token."""

from typing import Annotated, Any

import typer

from gptft.cli.options import (
    AsJson,
    Dtype,
    GenerationFile,
    Overrides,
    StrategyName,
    UseCpu,
    print_result,
)
from gptft.cli.settings_options import given_settings, with_settings


@with_settings
def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run folder, a model folder, a hub id, or pico."),
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="The text to continue.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Tokens to continue by, the likeliest each time.")
    ] = 1,
    top: Annotated[int, typer.Option(min=1, help="Tokens to show a step.")] = 10,
    other: Annotated[
        str | None,
        typer.Option("--with", metavar="OTHER", help="A model of the same vocabulary to compare."),
    ] = None,
    strategy: StrategyName = None,
    config_file: GenerationFile = None,
    overrides: Overrides = [],
    dtype: Dtype = None,
    use_cpu: UseCpu = False,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Show the likeliest next tokens, and what settings make of them.

    Settings are those of gptft generate: each is shown with how many tokens it keeps, and a token
    that it removes with its name.
    """
    from gptft import api
    from gptft.analysis.prediction_view import prediction_view
    from gptft.errors import ConfigError

    if prompt is None:
        raise ConfigError('There is no prompt. Give one: -p "Мороз и солнце".')
    prediction = api.predict(
        model,
        prompt,
        config=api.generation_config(config_file, overrides=overrides),
        given=given_settings({"strategy": strategy, **given}),
        steps=steps,
        top=top,
        other=other,
        dtype=dtype,
        use_cpu=use_cpu,
    )
    print_result(prediction, prediction_view, as_json=as_json)
