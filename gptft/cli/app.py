"""The Typer app that holds every command."""

from typing import Annotated

import typer

from gptft import __version__
from gptft.cli import (
    config,
    generate,
    novelty,
    predict,
    prepare,
    runs,
    score,
    strategies,
    tokenize,
    train,
)
from gptft.console import result

app = typer.Typer(
    name="gptft",
    help="Fine-tune a GPT on your own text and see what it learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        result(f"gptft {__version__}")
        raise typer.Exit


@app.callback()
def _gptft(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """Fine-tune a GPT on your own text and see what it learned."""


app.command()(tokenize.tokenize)
app.command()(prepare.prepare)
app.command()(train.train)
app.command()(generate.generate)
app.command()(strategies.strategies)
app.command()(predict.predict)
app.command()(score.score)
app.command()(novelty.novelty)
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
