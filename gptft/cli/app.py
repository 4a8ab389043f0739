"""The Typer app that holds every command, each loaded when it is asked for."""

import gc
from importlib import import_module
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperCommand
from typer.main import get_command, get_group

from gptft.cli.mistyped import CommandGroup, saying_what_was_meant
from gptft.console import result
from gptft.inputs import require_working_folder
from gptft.version import __version__

# In the order --help lists them, each with the first line of its help, so that --help imports none.
COMMANDS = {
    "tokenize": "Show what a model sees of TEXT: every token, its bytes, and what a word costs.",
    "tokenizer": "Train a tokenizer on your texts, or add tokens to one.",
    "info": "Show what a model is made of, and what it takes to run and train, unloaded.",
    "prepare": "Read, tokenize and pack the texts of CONFIG, and print where every token went.",
    "plan": "Say what `gptft train CONFIG` will take: parameters, steps, memory, disk and time.",
    "train": "Fine-tune a model on the texts of CONFIG, or train a new one.",
    "generate": "Continue a prompt, given with -p, in a --file or on standard input.",
    "strategies": "List every strategy of gptft generate, or show some with all their settings.",
    "predict": "Show the likeliest next tokens, and what settings make of them.",
    "explain": "Show how a model comes to its next token, part by part.",
    "play": "Open a page to try a model on: write, choose tokens, look inside.",
    "score": "Show how surprised a model is by TEXT: every token, perplexity, bits per byte.",
    "eval": "Measure models on documents: bits a byte, loss, calibration, the hardest ones.",
    "merge": "Merge the adapter of RUN into its base, to a model like any other.",
    "novelty": "Say how much of what a RUN's model writes is copied from its training text.",
    "runs": "List the runs below a folder and how each stands; show, compare and verify them.",
    "config": "Check a config, or show what it resolves to.",
}


_FIRST_COMMANDS = """\
gptft fine-tunes a GPT on your own text and shows what it learned. To begin:

  gptft tokenize "Мороз и солнце"                 what a model sees of a text
  gptft train poem.txt                            tune the bundled model on a text of yours
  gptft generate runs/poem -p "Мороз и солнце"    let it continue a prompt

gptft --help lists every command, gptft train --help what one takes."""


class _Commands(CommandGroup):
    """Commands by the name of their module, imported at first use: each takes milliseconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; where it is empty, show how to begin."""
        if not args:  # here, since calling anything through typer imports pydantic first
            result(_FIRST_COMMANDS)
            raise typer.Exit
        with saying_what_was_meant():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named."""
        require_working_folder()
        with saying_what_was_meant():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = load_command(cmd_name)
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of the program, which names the commands and imports none."""
        self.commands.update({n: TyperCommand(n, help=text) for n, text in COMMANDS.items()})
        super().format_help(ctx, formatter)
        self.commands.clear()


def load_command(name: str) -> Any:
    """The command of that name, as typer makes it of its module."""
    if name != "tokenize":  # which is done before there is anything to collect
        gc.enable()
    module = import_module(f"gptft.cli.{name}")
    own = getattr(module, "app", None)
    if own is None:
        own = typer.Typer(add_completion=False)
        own.command(name)(getattr(module, name))
    command = get_command(own) if len(own.registered_commands) == 1 else get_group(own)
    command.name = name
    return command


app = typer.Typer(
    cls=_Commands,
    name="gptft",
    help="Fine-tune a GPT on your own text and see what it learned.",
    add_completion=False,
    pretty_exceptions_enable=False,
    # --learning_rate is --learning-rate: Hugging Face's scripts have both.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        result(f"gptft {__version__}")
        raise typer.Exit


@app.callback()
def _gptft(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    """Fine-tune a GPT on your own text and see what it learned."""
