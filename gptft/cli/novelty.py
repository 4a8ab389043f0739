"""`gptft novelty`: a run and texts its model wrote -> how much of them is copied."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gptft.cli.options import AsJson, Lang, OverwritePage, print_result
from gptft.console import notice


def novelty(
    run: Annotated[Path, Argument(metavar="RUN", help="A run folder.")],
    files: Annotated[
        list[str],
        Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Texts: what generate --json prints, a text a line as JSON, or one plain text; "
            "- is standard input; repeatable. Without it, the run's own last samples.",
        ),
    ] = [],
    html: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write the texts, what is copied marked, as a page."),
    ] = None,
    lang: Lang = None,
    overwrite: OverwritePage = False,
    as_json: AsJson = False,
) -> None:
    """Say how much of what a RUN's model writes is copied from its training text.

    For each text: the longest span copied word for word, where it is in the training text, and the
    share of its runs of 4, 8 and 16 tokens that are there. Short runs occur in any text: compare
    with what held-out text shares with the training text, if the run has some (data.validation).
    """
    from gptft import api
    from gptft.analysis.memorization_view import memorization_view, what_it_means

    measured = api.novelty(run, files, html=html, lang=lang, overwrite=overwrite, notify=notice)
    print_result(measured, memorization_view, as_json=as_json)
    if not as_json and (remark := what_it_means(measured)):
        notice(remark)
