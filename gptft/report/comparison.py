"""Rows of `analysis.compare` -> one self-contained page to compare strategies on a prompt."""

from collections.abc import Sequence

from gptft.analysis.compare import view
from gptft.analysis.compare.results import StrategyResult, equal_earlier, known_metrics
from gptft.decoding.strategies import STRATEGIES
from gptft.report.render import render

_STOPPED = {
    "eos": "The model ended the text.",
    "length": "Cut at its length.",
    "stop_string": "Ended before a stop string.",
}


def comparison_html(rows: Sequence[StrategyResult], *, model: str, prompt: str) -> str:
    """The page.

    Args:
        rows: see `analysis.compare.compare`.
        model: what to call the model.
        prompt: that was continued.
    """
    metrics = known_metrics(rows)
    best = {metric.name: metric.best_of(rows) for metric in metrics}
    return render(
        "comparison.html.j2", rows=rows, model=model, prompt=prompt, metrics=metrics, best=best,
        same=equal_earlier(rows), strategies=STRATEGIES, stopped=_STOPPED, view=view,
    )  # fmt: skip
