"""Arguments and options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gptft.config import Config
    from gptft.corpus.prepare import Prepared

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="A YAML config, or a text file or folder.")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def is_yaml(path: Path) -> bool:
    """Whether CONFIG names a YAML config, there or not, and no text."""
    return path.suffix.lower() in (".yaml", ".yml") or not path.exists()


def read_config(path: Path, overrides: Sequence[str]) -> "Config":
    """The config in a YAML file, or the default one for a text file or folder."""
    from gptft.config.load import default_config, load_config

    if is_yaml(path):
        return load_config(path, overrides=overrides)
    return default_config(overrides=overrides, text=path)


def prepare_with_progress(config: "Config") -> "Prepared":
    """Prepare the blocks of a config, with a bar on a terminal's stderr."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from gptft.console import stderr
    from gptft.corpus.prepare import prepare_config

    console = stderr()
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("tokenizing"),
        BarColumn(bar_width=None),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("tokenizing", total=None)
        return prepare_config(
            config, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
