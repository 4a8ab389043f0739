"""A run -> report.html, one self-contained page that shows what the run learned."""

from pathlib import Path

from gptft.files import write_output
from gptft.report import chart
from gptft.report.render import render
from gptft.runs.read import Run, read_run

# A section is a template in templates/sections/, given `run`, `facts` and `chart`, and its name
# here, in the order of the page. One that has nothing to show is empty.
SECTIONS = ("results", "recital", "loss", "learning_rate", "samples", "ledger", "settings")


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run, finished or not; an earlier one is replaced.

    It gives the config as it is in run.json, paths included; a secret's value isn't given. The
    same run gives the same bytes.

    Returns:
        the report's path.

    Raises:
        RunError: this isn't a run, or the report can't be written.
    """
    path = run_dir / "report.html"
    write_output(path, report(read_run(run_dir)))
    return path


def report(run: Run) -> str:
    """The report's HTML."""
    return render("report.html.j2", run=run, sections=SECTIONS, chart=chart)
