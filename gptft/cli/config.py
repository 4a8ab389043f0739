"""`gptft config`: look at a config without running it."""

import typer

from gptft.cli.options import AsJson, ConfigFile, Overrides, read_config

app = typer.Typer(no_args_is_help=True, help="Check a config, or show what it resolves to.")


@app.command()
def check(config_file: ConfigFile, overrides: Overrides = []) -> None:
    """Check every setting of CONFIG, its tokenizer and context, and that its texts are there.

    All problems of the settings are named at once.
    """
    from gptft.console import result
    from gptft.data.plan import check_average, plan_packing
    from gptft.decoding.settings import check_strategies, resolve_settings
    from gptft.documents.sources import find_texts
    from gptft.models.source import expand_models, resolve_model

    config = read_config(config_file, overrides)
    resolve_settings(config.generation)
    check_strategies(config.strategies)
    found = ""
    if config.data is not None:
        names = [config.tokenizer.name] if config.tokenizer.name else []
        if config.model.from_scratch is None:
            others = (one.name for one in config.model.average_with)
            names = [config.model.name, *expand_models(others)]
        if all(resolve_model(name) is not None for name in names):  # a hub id may need the network
            check_average(config.model, plan_packing(config).tokenizer)
        texts = find_texts(config.data)
        num_train, num_validation = texts.num_train, len(texts.texts) - texts.num_train
        found = f" Files to train on: {num_train:,}, to validate on: {num_validation:,}."
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
    from gptft.api import config_schema
    from gptft.console import result_json

    result_json(config_schema())
