"""The settings of a strategy as options of a command, made from their table."""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from typing import Annotated, Any, TypeVar, get_args

import typer
from typer import Option

from gptft.config.numbers import read_whole
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
    "length": "Settings: length",
    "choice": "Settings: number of texts",
    "search": "Settings: search",
    "sampling": "Settings: sampling",
    "repetition": "Settings: repetition",
    "tokens": "Settings: words and tokens",
    "other models": "Settings: other models",
    "speed": "Settings: speed",
    "watermark": "Settings: watermarks",
}
_SHORT = {"num_return_sequences": "-n"}
# The settings that `--help` shows, and a command's own options that it doesn't; `--help-all` shows
# every one.
_EVERYDAY = {
    "max_new_tokens", "stop_strings", "num_return_sequences", "temperature", "top_k", "top_p",
    "min_p", "seed", "num_beams", "repetition_penalty", "no_repeat_ngram_size",
}  # fmt: skip
_RARE = {
    "template", "chat", "window", "batch_size", "html", "lang", "overwrite", "speed", "dtype",
    "stream",
}  # fmt: skip


def _show_all(context: typer.Context, wanted: bool | None) -> None:
    """Print a command's help with the options that `--help` leaves out."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit


_HelpAll = Annotated[
    bool | None,
    Option(
        "--help-all",
        help="Show every option, those of rare settings too, and exit.",
        is_eager=True,
        callback=_show_all,
    ),
]


def with_settings(command: Command) -> Command:
    """Give a command an option for each setting; they come as its keyword arguments.

    The command must take `**settings`; an option that wasn't given comes as None.
    """
    signature = inspect.signature(command)
    own = [_hidden(p) for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    rows = sorted(SETTINGS.values(), key=lambda row: [*_PANELS].index(row.group))
    options = [_option(row) for row in rows if row.kind.name in _TYPES]
    help_all = inspect.Parameter(
        "help_all", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_HelpAll
    )
    command.__signature__ = signature.replace(parameters=[*own, *options, help_all])  # type: ignore[attr-defined]
    return command


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    """A command's own parameter, left out of `--help` where it is rarely needed."""
    if parameter.name not in _RARE:
        return parameter
    kind, option = get_args(parameter.annotation)
    option = copy(option)  # several commands share it
    option.hidden = True
    return parameter.replace(annotation=Annotated[kind, option])


def _option(row: Setting) -> inspect.Parameter:
    flag = f"--{row.name.replace('_', '-')}"
    names = [f"{flag}/--no-{flag[2:]}" if row.kind.name == "bool" else flag]
    names += [_SHORT[row.name]] if row.name in _SHORT else []
    bounds = f" ({row.range})" if row.range else ""
    many = row.kind.name in ("texts", "words", "ints")
    help_text = f"{row.description.removesuffix('.')}{bounds}{'; repeatable' * many}."
    is_whole = row.kind.name in ("int", "ints")
    option = Option(
        *names, help=help_text, rich_help_panel=_PANELS[row.group],
        hidden=row.name not in _EVERYDAY,
        parser=whole_number if is_whole else None, metavar="INTEGER" if is_whole else None,
    )  # fmt: skip
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_TYPES[row.kind.name], option],
    )


def whole_number(text: str) -> int:
    """A whole number as YAML takes it, 8.0 and 1e3 too, where click's own type takes 8 alone.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return read_whole(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is not a whole number.") from None


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, as YAML would have them."""
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    if early := given.get("early_stopping"):
        word = early.lower()  # as Python spells it, too
        given["early_stopping"] = {"true": True, "false": False}.get(word, word)
    if (layers := given.get("dola_layers")) not in (None, "low", "high"):
        given["dola_layers"] = layers.split(",")
    return given
