"""Arguments and options that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from typer import Argument, Option

from gptft.console import is_first_process, notice, result, result_json, stderr
from gptft.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import TaskID

    from gptft.documents.scan import Progress

ConfigFile = Annotated[
    Path, Argument(metavar="CONFIG", help="A YAML config, or a text file or folder.")
]
Overrides = Annotated[
    list[str], Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
]
StrategyName = Annotated[
    str | None,
    Option(
        help="A strategy by name (gptft strategies lists them), or one of the config's own; "
        "without it the settings decide."
    ),
]
GenerationFile = Annotated[
    Path | None,
    Option("--config", "-c", help="A YAML config: its generation, strategies, model.name."),
]
MODEL = Argument(metavar="MODEL", help="A run or model folder, a .gguf file, a hub id, or pico.")
DTYPE = Option(help="Of the weights; auto is what the device is fast in.")
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Words = Annotated[
    list[str], Argument(metavar="TEXT", help="Words, joined with a space.", show_default=False)
]
UseCpu = Annotated[
    bool, Option("--cpu", help="Run on the CPU even if an accelerator is available.")
]
OverwritePage = Annotated[
    bool, Option("--overwrite", help="Let --html replace a file that is no page of gptft.")
]
Lang = Annotated[
    Literal["en", "ru"] | None,
    Option(help="The page's language; the text's, unless you choose."),
]
AsJson = Annotated[bool, Option("--json", help="Print the result as JSON.")]


T = TypeVar("T")
_WIDE = 70  # columns of a terminal that hold a bar beside the figures


def print_result(value: T, view: "Callable[[T], RenderableType]", *, as_json: bool) -> None:
    """Print a result as JSON, or as `view` draws it."""
    if as_json:
        result_json(value)
    else:
        result(view(value))


def text_argument(words: Sequence[str], file: Path | None, *, example: str) -> str:
    """The text that a command is given: its words, a file, or standard input.

    Args:
        words: joined with a space.
        file: a text file, a book or a page.
        example: a command with a text, for a person who gave none.

    Raises:
        ConfigError: it is given twice, or not at all.
        DataError: it isn't text.
    """
    if words and file:
        raise ConfigError("TEXT and --file are both given. Give one of them.")
    if words:
        if len(words) == 1 and os.path.isfile(words[0]):
            notice(f"TEXT is taken as it is, and {words[0]} is a file: --file reads it.")
        return " ".join(words)
    from gptft.text.encoding import read_stdin

    if file:
        from gptft.documents.whole_text import read_whole_text

        return read_whole_text(file)
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            f"There is no text. Give one ({example}), name a file with --file, or send one to "
            "standard input."
        )
    return read_stdin()


@contextmanager
def progress_bar() -> "Iterator[Progress | None]":
    """What shows bytes, MB/s and the time left on a terminal's stderr; None off a terminal."""
    console = stderr()
    if not (console.is_terminal and is_first_process()):
        yield None
        return
    from rich import progress

    is_wide = console.width >= _WIDE
    columns = (
        progress.TextColumn("{task.description}"),
        *([progress.BarColumn(bar_width=None)] if is_wide else []),
        progress.DownloadColumn(),
        *([progress.TransferSpeedColumn()] if is_wide else []),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield show
