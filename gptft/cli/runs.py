"""`gptft runs`: the runs below a folder, one of them, and whether its checkpoints are intact."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from gptft.cli.mistyped import CommandGroup
from gptft.cli.options import AsJson, Lang, OverwritePage, print_result
from gptft.console import notice, result, result_json, stdout
from gptft.errors import ConfigError
from gptft.terminal.text import escaped
from gptft.terminal.words import count

if TYPE_CHECKING:
    from gptft.runs.verify import Verified

Folder = Annotated[Path, Argument(metavar="DIR", help="A folder of runs, or one run.")]


class _ListByDefault(CommandGroup):
    """A group whose first word is a folder to list, unless it is a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = (*self.commands, *ctx.help_option_names)
        if not args or (args[0] not in known and not self._is_mistyped(args[0])):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def _is_mistyped(self, word: str) -> bool:
        from gptft.config.suggest import did_you_mean

        return not os.path.exists(word) and did_you_mean(word, self.commands) != ""


app = typer.Typer(
    cls=_ListByDefault,
    subcommand_metavar="[DIR] | show RUN | compare RUN... | verify RUN...",
    help="List the runs below a folder and how each stands; show, compare and verify them.",
)


@app.command(name="list")
def list_(folder: Folder = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs below DIR, newest first; `gptft runs DIR` does the same.

    A run is running, done, stopped, failed, or damaged as far as its files' sizes tell.
    """
    from gptft import api

    listing = api.list_runs(folder)
    if as_json:
        result_json(listing)
        return
    for path, reason in listing.unreadable:
        notice(f"{escaped(path)} {reason}")
    if not listing.runs:
        result(f"No runs in {escaped(folder)}. `gptft train` makes one.")
        return
    from gptft.runs.status_view import listing_view

    result(listing_view(listing, folder))


@app.command()
def show(
    run: Annotated[Path, Argument(metavar="RUN", help="The folder of a run.")],
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write the run's report as a page, too.")
    ] = None,
    svg: Annotated[
        Path | None,
        Option(metavar="FOLDER", help="Write loss.svg and learning_rate.svg there, too."),
    ] = None,
    lang: Lang = None,
    follow: Annotated[
        bool, Option("--follow", help="Watch it from here until it ends; Ctrl-C leaves it alone.")
    ] = False,
    overwrite: OverwritePage = False,
    as_json: AsJson = False,
) -> None:
    """Show RUN, finished or not: state, figures, curves, settings and its last samples.

    Nothing in RUN is written.
    """
    from gptft import api
    from gptft.runs.show_view import run_view

    if follow and as_json:
        raise ConfigError("--follow and --json are both given. metrics.jsonl in RUN is JSON.")
    if follow:
        from gptft.runs.follow_view import show_updates

        show_updates(api.follow_run(run), stdout())
    shown = api.show_run(run, html=html, svg=svg, lang=lang, overwrite=overwrite, notify=notice)
    print_result(shown, run_view, as_json=as_json)
    for sentence in shown.remarks:
        notice(sentence)


@app.command()
def compare(
    runs: Annotated[
        list[Path], Argument(metavar="RUN", help="Two or more runs, or a folder that holds them.")
    ],
    html: Annotated[Path | None, Option(metavar="FILE", help="Write it as a page, too.")] = None,
    lang: Lang = None,
    overwrite: OverwritePage = False,
    as_json: AsJson = False,
) -> None:
    """Show runs side by side: settings that differ, losses in one chart, figures, samples.

    Where their losses don't compare, it says why.
    """
    from gptft import api
    from gptft.runs.compare_view import comparison_view

    compared = api.compare_runs(runs, html=html, lang=lang, overwrite=overwrite, notify=notice)
    print_result(compared, comparison_view, as_json=as_json)
    for sentence in compared.remarks:
        notice(sentence)


@app.command()
def verify(
    runs: Annotated[list[Path], Argument(metavar="RUN", help="Runs, or folders of runs.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte of every checkpoint of RUN; exit 1 if any file isn't what was written."""
    from gptft import api

    looked_at: list[Verified] = []
    for verified in api.verify_runs(runs):
        looked_at.append(verified)
        if not as_json and (verified.problems or verified.step is not None):
            for problem in verified.problems or ("intact",):
                result(f"{escaped(verified.path)}: {escaped(problem)}")
    num_damaged = sum(bool(verified.problems) for verified in looked_at)
    if as_json:
        result_json({"damaged": num_damaged, "verified": looked_at})
    else:
        num_read = sum(verified.step is not None for verified in looked_at)
        verdict = "--resume skips a damaged one" if num_damaged else "nothing is damaged"
        notice(f"{count(num_read, 'checkpoint')} read: {verdict}.")
    if num_damaged:
        raise typer.Exit(1)
