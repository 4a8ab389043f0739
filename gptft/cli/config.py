"""`gptft config`: look at a config without running it."""

import typer

from gptft.cli.options import AsJson, ConfigFile, Overrides, read_config

app = typer.Typer(no_args_is_help=True, help="Check a config, or show what it resolves to.")


@app.command()
def check(config_file: ConfigFile, overrides: Overrides = []) -> None:
    """Check every setting of CONFIG and that its texts are there; name all problems at once."""
    from gptft.console import result
    from gptft.corpus.documents import find_parts
    from gptft.decoding.strategies import resolve_settings

    config = read_config(config_file, overrides)
    resolve_settings(config.generation)
    found = ""
    if config.data is not None:
        train, validation = find_parts(config.data)
        found = f" {len(train.files):,} training files, {len(validation):,} validation files."
    result(f"{config_file}: every setting is right.{found}")


@app.command()
def show(config_file: ConfigFile, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Print CONFIG as it is in force, defaults and --set included."""
    from gptft.config.source import dump_yaml
    from gptft.console import result, result_json

    values = read_config(config_file, overrides).resolved()
    if as_json:
        result_json(values)
    else:
        result(dump_yaml(values).rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a config, for an editor to complete and check with."""
    from gptft.config.schema import config_schema
    from gptft.console import result_json

    result_json(config_schema())
