"""Several runs -> one self-contained page that has them side by side."""

from collections.abc import Sequence

from markupsafe import Markup

from gptft.report import chart
from gptft.report.render import render
from gptft.runs import compare_view as view
from gptft.runs.compare import RunComparison
from gptft.runs.read import Point

_NUM_STYLES = 8  # of lines, in templates/style.css
_MAX_PROMPTS = 20


def run_comparison_html(compared: RunComparison) -> str:
    """The page."""
    curves = (
        ("Held-out loss", [one.held_out for one in compared.runs]),
        ("Training loss", [one.training for one in compared.runs]),
    )
    charts = [(title, _chart(compared, points, title=title)) for title, points in curves]
    return render(
        "run_comparison.html.j2", compared=compared, figures=view.known_figures(compared),
        charts=[one for one in charts if one[1]], samples=compared.samples[:_MAX_PROMPTS],
        num_more=max(len(compared.samples) - _MAX_PROMPTS, 0),
    )  # fmt: skip


def _chart(compared: RunComparison, curves: Sequence[Sequence[Point]], *, title: str) -> Markup:
    lines = [
        chart.Line(f"{one.mark} {one.name}", f"run{place % _NUM_STYLES}", points)
        for place, (one, points) in enumerate(zip(compared.runs, curves, strict=True))
    ]
    return chart.line_chart(lines, title=f"{title} by step", shown=chart.short_number)
