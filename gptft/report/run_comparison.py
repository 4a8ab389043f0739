"""Several runs -> one self-contained page that has them side by side."""

from collections.abc import Sequence

from markupsafe import Markup

from gptft.report import chart
from gptft.report.language import Words
from gptft.report.render import render
from gptft.runs import compare_view as view
from gptft.runs.compare import DIFFERENT_TEXTS, DIFFERENT_TOKENIZERS, ESTIMATED, RunComparison
from gptft.runs.read import Point
from gptft.text.scripts import PageLanguage, page_language

_NUM_STYLES = 8  # of lines, in templates/style.css
_MAX_PROMPTS = 20
_REMARKS = {
    DIFFERENT_TOKENIZERS: "different_tokenizers", ESTIMATED: "estimated",
    DIFFERENT_TEXTS: "different_texts",
}  # fmt: skip


def run_comparison_html(compared: RunComparison, lang: PageLanguage = "en") -> str:
    """The page, its words in a language."""
    words = Words.of(lang, "comparisons")
    curves = (
        (words.t["held_out_curve"], [one.held_out for one in compared.runs]),
        (words.t["training_curve"], [one.training for one in compared.runs]),
    )
    charts = [(title, _chart(compared, points, words, title=title)) for title, points in curves]
    return render(
        "run_comparison.html.j2", compared=compared, figures=view.known_figures(compared),
        charts=[one for one in charts if one[1]], samples=compared.samples[:_MAX_PROMPTS],
        num_more=max(len(compared.samples) - _MAX_PROMPTS, 0), w=words,
        remarks=[words.t[_REMARKS[one]] for one in compared.remarks],
    )  # fmt: skip


def comparison_language(compared: RunComparison) -> PageLanguage:
    """The language of the runs' prompts; English where it isn't Russian."""
    return page_language("\n".join(one["prompt"] for one in compared.samples))


def _chart(
    compared: RunComparison, curves: Sequence[Sequence[Point]], words: Words, *, title: str
) -> Markup:
    lines = [
        chart.Line(f"{one.mark} {one.name}", f"run{place % _NUM_STYLES}", points)
        for place, (one, points) in enumerate(zip(compared.runs, curves, strict=True))
    ]
    return chart.line_chart(
        lines, title=words.say("by_step", what=title), shown=chart.short_number, words=words,
    )  # fmt: skip
