"""`gptft config`: look at a config without running it."""

import typer

from gptft.cli.mistyped import CommandGroup
from gptft.cli.options import AsJson, ConfigFile, Overrides
from gptft.console import notice, result, result_json

app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="Check a config, or show what it resolves to."
)


@app.command()
def check(config_file: ConfigFile, overrides: Overrides = []) -> None:
    """Check all that `gptft train` needs of CONFIG: settings, packages, model, tokenizer, texts.

    Where CONFIG only says how to generate, what `gptft generate` needs. All problems are named at
    once.
    """
    from gptft import api

    checked = api.check_config(config_file, overrides=overrides)
    for sentence in checked.notices:
        notice(sentence)
    result(f"{config_file}: every setting is right. {checked.found()}")


@app.command()
def show(config_file: ConfigFile, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Print CONFIG as it is in force, defaults and --set included."""
    from gptft import api
    from gptft.config.source import dump_yaml

    file = api.read_config(config_file, overrides=overrides)
    values = file.checked().resolved()
    for sentence in file.notices:
        notice(sentence)
    if as_json:
        result_json(values)
    else:
        result(dump_yaml(values).rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for an editor to complete and check with."""
    from gptft import api

    result_json(api.config_schema())
