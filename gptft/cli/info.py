"""`gptft info`: what a model is, from its config and the headers of its weights."""

from pathlib import Path
from typing import Annotated

from typer import Option

from gptft.cli.options import MODEL, AsJson, OverwritePage, print_result, text_argument
from gptft.console import notice
from gptft.errors import ConfigError


def info(
    model: Annotated[str, MODEL],
    compare: Annotated[
        str | None, Option(metavar="OTHER", help="Another model, shown beside it.")
    ] = None,
    text: Annotated[
        str | None, Option(help="A text of yours, to say how many bytes of it a token holds.")
    ] = None,
    file: Annotated[
        Path | None, Option("--file", "-f", metavar="PATH", help="A text file for the same.")
    ] = None,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write it as a page, too.")] = None,
    overwrite: OverwritePage = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model is made of, and what it takes to run and train, unloaded."""
    from gptft import api
    from gptft.inspection.info_view import info_view

    if text is not None and file is not None:
        raise ConfigError("--text and --file are both given. Give one of them.")
    content = text if file is None else text_argument([], file, example="")
    found = api.info(
        model,
        compare=[] if compare is None else [compare],
        text=content,
        html=html,
        inputs=[] if file is None else [file],
        overwrite=overwrite,
        notify=notice,
    )
    print_result(found, lambda shown: info_view(shown.models), as_json=as_json)
