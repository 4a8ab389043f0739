"""Models side by side on documents -> one self-contained page of it."""

from gptft.analysis.evaluate import view
from gptft.analysis.evaluate.results import Evaluation
from gptft.report.render import render


def evaluation_html(found: Evaluation) -> str:
    """The page."""
    return render("evaluation.html.j2", found=found, view=view)
