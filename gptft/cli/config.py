"""`gptft config`: look at a config without running it."""

import typer

from gptft.cli.options import AsJson, ConfigFile, Overrides, read_config

app = typer.Typer(no_args_is_help=True, help="Check a config, or show what it resolves to.")


@app.command()
def check(config_file: ConfigFile, overrides: Overrides = []) -> None:
    """Check all that `gptft train` needs of CONFIG: settings, packages, model, tokenizer, texts.

    All problems are named at once.
    """
    from gptft import api
    from gptft.console import result

    checked = api.check_config(config_file, overrides=overrides)
    num_train, documents = checked.texts.num_train, checked.documents
    num_held_out = len(checked.texts.texts) - num_train
    found = f"Files to train on: {num_train:,}, to validate on: {num_held_out:,}."
    if isinstance(share := checked.plan.data.validation, float):
        found = f"Files to train on: {num_train:,}, of whose documents {share:.0%} are held out."
        if documents is not None:
            train, held_out = documents.train, documents.validation
            found = f"Documents to train on: {train:,}, to validate on: {held_out:,}."
    result(f"{config_file}: every setting is right. {found}")


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
    from gptft import api
    from gptft.console import result_json

    result_json(api.config_schema())
