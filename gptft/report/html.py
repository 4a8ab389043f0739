"""A run -> report.html, one self-contained page that shows what the run learned."""

from pathlib import Path

from gptft.files import write_output
from gptft.report import chart, verdict
from gptft.report.render import render
from gptft.runs.read import Run, read_run

# A section is a template in templates/sections/, given `run`, `facts` and `chart`, and its name
# here, in the order of the page. One that has nothing to show is empty.
SECTIONS = (
    "results", "recital", "loss", "learning_rate", "samples", "documents", "ledger", "settings",
)  # fmt: skip


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


def curve_files(run: Run) -> dict[str, str]:
    """The curves of a run as SVG files, by their names; one that has no point is left out."""
    losses = [
        chart.Line("training loss", "train", run.curve("loss")),
        chart.Line("held-out loss", "validation", verdict.validation_curve(run)),
    ]
    rates = [chart.Line("learning rate", "rate", run.curve("learning_rate"))]
    drawn = {
        "loss.svg": chart.svg_file(
            losses, title=f"{run.name}: loss by step", shown=chart.short_number
        ),
        "learning_rate.svg": chart.svg_file(
            rates, title=f"{run.name}: learning rate by step", shown=chart.scientific, low=0.0
        ),
    }
    return {name: text for name, text in drawn.items() if text}
