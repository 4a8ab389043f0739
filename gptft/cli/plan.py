"""`gptft plan`: what a run will take, before it begins."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from gptft.cli.options import AsJson, ConfigFile, Overrides, print_result, progress_bar
from gptft.cli.training_flags import FlagsCommand, given_flags, with_flags
from gptft.console import notice

app = typer.Typer(add_completion=False)


@app.command(cls=FlagsCommand)
@with_flags
def plan(
    config_file: ConfigFile,
    overrides: Overrides = [],
    measure: Annotated[
        bool,
        Option(
            "--measure/--no-measure",
            help="Make a few steps of the run, or tell all by arithmetic, without its weights.",
        ),
    ] = True,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Say what `gptft train CONFIG` will take: parameters, steps, memory, disk and time.

    \b
      gptft plan poem.txt
      gptft plan my.yaml --batch-size 16 --no-measure

    It takes the settings of gptft train, as flags, too. Whether it fits is in the first line; the
    exit code is 0 in either case.
    """  # noqa: D301  # typer leaves the lines behind a \b as they are
    from gptft import api
    from gptft.runs.plan_view import plan_view

    file = api.read_config(config_file, overrides=[*overrides, *given_flags(flags)])
    run_dir = Path("runs") / config_file.resolve().stem
    found = api.plan(file, run_dir=run_dir, measure=measure, progress=progress_bar, notify=notice)
    print_result(found, plan_view, as_json=as_json)
