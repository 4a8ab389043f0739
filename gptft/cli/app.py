"""The Typer app that holds every command, each loaded when it is asked for."""

import gc
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from gptft.console import result
from gptft.version import __version__

# In the order --help lists them; a module of several commands has an `app`, others a function.
_COMMANDS = (
    "tokenize", "tokenizer", "prepare", "train", "generate", "strategies", "predict", "score",
    "novelty", "runs", "config",
)  # fmt: skip


class _Commands(TyperGroup):
    """Commands by the name of their module, imported at first use: each takes milliseconds."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in order."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        elif cmd_name not in _COMMANDS:  # what it was meant to be is looked for among all
            self.commands.update({name: _load(name) for name in _COMMANDS})
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    if name != "tokenize":  # which is done before there is anything to collect
        gc.enable()
    module = import_module(f"gptft.cli.{name}")
    own = getattr(module, "app", None)
    if own is None:
        own = typer.Typer(add_completion=False)
        own.command(name)(getattr(module, name))
        command = get_command(own)
    else:
        command = get_group(own)
    command.name = name
    return command


app = typer.Typer(
    cls=_Commands,
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
