"""The settings of a config as flags of a command, each the same as its `--set`."""

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from typer import Option
from typer.core import TyperCommand

from gptft.config.flags import flag, flag_settings, switches
from gptft.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

# The flags that `--help` shows, with what stands for a value; all others are like their setting.
_EVERYDAY = {
    "--model": ("NAME", "What to tune: pico, a model or run folder, a .gguf file, a hub id."),
    "--out": ("DIR", "The run folder; runs/ and CONFIG's name without it."),
    "--epochs": ("N", "How often the text is seen."),
    "--max-steps": ("N", "Train for so many steps instead."),
    "--lr": ("RATE", "The learning rate at its highest, such as 1e-4."),
    "--batch-size": ("N", "Blocks a step and device."),
    "--block-size": ("N", "Tokens a block."),
    "--validation": ("SHARE|PATH", "Text to hold out, such as 0.1, or a file of its own."),
    "--seed": ("N", "Of everything drawn by chance in training."),
}
_PROFILED = 10  # steps of a bare --profile
_SHORT = {"--out": "-o"}


class FlagsCommand(TyperCommand):
    """A command whose switches may stand alone, or have true or false behind them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, every switch with a value."""
        return super().parse_args(ctx, [*_with_values(args)])


def _with_values(args: Sequence[str]) -> Iterator[str]:
    """Write switches with their values.

    >>> [*_with_values(["--bf16", "--fp16", "False", "a.txt", "--profile", "3", "--profile"])]
    ['--bf16=true', '--fp16=false', 'a.txt', '--profile=3', '--profile=10']
    """
    rest = deque(args)
    while rest:
        arg = rest.popleft()
        if arg == "--profile":
            number = rest.popleft() if rest and rest[0].isdigit() else str(_PROFILED)
            yield f"{arg}={number}"
        elif arg.replace("_", "-") not in switches():
            yield arg
        elif rest and rest[0].lower() in ("true", "false"):
            yield f"{arg}={rest.popleft().lower()}"
        else:
            yield f"{arg}=true"
        if arg == "--":  # what follows is no flag
            yield from rest
            return


def with_flags(command: Command) -> Command:
    """Give a command the flags; they come as its keyword arguments, those not given as None.

    The command must take `**flags`, and be made by `FlagsCommand`.
    """
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = dict.fromkeys([*_EVERYDAY, *flag_settings()])
    parameters = [*own, *map(_option, names)]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _option(name: str) -> inspect.Parameter:
    metavar, meaning = _EVERYDAY.get(name, (None, None))
    names = [name, *([_SHORT[name]] if name in _SHORT else [])]
    option = Option(
        *names, metavar=metavar, help=meaning, hidden=meaning is None, rich_help_panel="Settings"
    )
    return inspect.Parameter(
        name.removeprefix("--").replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def given_flags(flags: Mapping[str, Any]) -> list[str]:
    """The flags that were given, as `read_config` takes them.

    Raises:
        ConfigError: two of them name the same setting.
    """
    given = {flag(name): value for name, value in flags.items() if value is not None}
    first_of: dict[tuple[str, ...], str] = {}
    for name in given:
        setting = flag_settings()[name]
        if (first := first_of.setdefault(setting, name)) != name:
            raise ConfigError(f"{first} and {name} both set {'.'.join(setting)}. Give one of them.")
    return [f"{name}={value}" for name, value in given.items()]
