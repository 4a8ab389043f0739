"""Arguments and options that several commands share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import TaskID

    from gptft.config.sections import Config
    from gptft.documents.scan import Progress

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A YAML config, or a text file or folder.")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
StrategyName = Annotated[
    str | None,
    typer.Option(
        help="A strategy by name (gptft strategies lists them), or one of the config's own; "
        "without it the settings decide."
    ),
]
GenerationFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="A YAML config: its generation, strategies, model.name."),
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Of the weights; auto is what the device is fast in."),
]
UseCpu = Annotated[
    bool, typer.Option("--cpu", help="Run on the CPU even if an accelerator is available.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


T = TypeVar("T")


def print_result(value: T, view: "Callable[[T], RenderableType]", *, as_json: bool) -> None:
    """Print a result as JSON, or as `view` draws it."""
    from gptft.console import result, result_json

    if as_json:
        result_json(value)
    else:
        result(view(value))


def read_config(path: Path, overrides: Sequence[str]) -> "Config":
    """The config in a YAML file, or the default one for a text file or folder."""
    from gptft import api

    return api.read_config(path, overrides=overrides).checked()


def text_argument(words: Sequence[str], file: Path | None, *, example: str) -> str:
    """The text that a command is given: its words, a file, or standard input.

    Args:
        words: joined with a space.
        file: a text file.
        example: a command with a text, for who gave none.

    Raises:
        ConfigError: it is given twice, or not at all.
        DataError: it isn't text.
    """
    from gptft.errors import ConfigError
    from gptft.text.encoding import read_stdin, read_text

    if words and file:
        raise ConfigError("TEXT and --file are both given. Give one of them.")
    if words:
        return " ".join(words)
    if file:
        return read_text(file)
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            f"There is no text. Give one ({example}), name a file with --file, or send one to "
            "standard input."
        )
    return read_stdin()


@contextmanager
def progress_bar() -> "Iterator[Progress | None]":
    """What shows bytes, MB/s and the time left on a terminal's stderr; None off a terminal."""
    from gptft.console import is_first_process, stderr

    console = stderr()
    if not (console.is_terminal and is_first_process()):
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        *columns,
        console=console,
        transient=True,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield show
