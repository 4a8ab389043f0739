"""The settings of a strategy as options of a command, made from their table."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from gptft.config.settings import Setting
from gptft.decoding.strategies import SETTINGS

Command = TypeVar("Command", bound=Callable[..., Any])

# The kinds a command line can hold; the others are for YAML and --set.
_TYPES: Mapping[str, Any] = {
    "int": int | None,
    "float": float | None,
    "bool": bool | None,
    "text": str | None,
    "early_stopping": str | None,
    "layers": str | None,
    "texts": list[str] | None,
    "words": list[str] | None,
    "ints": list[int] | None,
}
_PANELS: Mapping[str, str] = {
    "length": "Settings: how long",
    "choice": "Settings: how many",
    "search": "Settings: how to search",
    "sampling": "Settings: how to draw",
    "repetition": "Settings: repetition",
    "tokens": "Settings: words wanted and not",
    "other models": "Settings: with other models",
    "speed": "Settings: the same, faster",
    "watermark": "Settings: marks",
}
_SHORT = {"num_return_sequences": "-n"}


def with_settings(command: Command) -> Command:
    """Give a command an option for each setting; they come as its keyword arguments.

    The command must take `**settings`; an option that wasn't given comes as None.
    """
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rows = sorted(SETTINGS.values(), key=lambda row: [*_PANELS].index(row.group))
    options = [_option(row) for row in rows if row.kind.name in _TYPES]
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return command


def _option(row: Setting) -> inspect.Parameter:
    flag = f"--{row.name.replace('_', '-')}"
    names = [f"{flag}/--no-{flag[2:]}" if row.kind.name == "bool" else flag]
    names += [_SHORT[row.name]] if row.name in _SHORT else []
    bounds = f" ({row.range})" if row.range else ""
    many = row.kind.name in ("texts", "words", "ints")
    help_text = f"{row.description.removesuffix('.')}{bounds}{'; repeatable' * many}."
    option = typer.Option(*names, help=help_text, rich_help_panel=_PANELS[row.group])
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_TYPES[row.kind.name], option],
    )


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, as YAML would have them."""
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    if (early := given.get("early_stopping")) in ("true", "false"):
        given["early_stopping"] = early == "true"
    if (layers := given.get("dola_layers")) not in (None, "low", "high"):
        given["dola_layers"] = layers.split(",")
    return given
