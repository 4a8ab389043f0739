"""A run -> report.html, one self-contained page that shows what the run learned."""

from pathlib import Path

from gptft.files import write_output
from gptft.report import chart, verdict
from gptft.report.language import Words
from gptft.report.ledger_words import ledger_sentences
from gptft.report.render import render
from gptft.runs.documents import document_losses_of
from gptft.runs.read import Run, read_run
from gptft.runs.recital import recital_of
from gptft.text.scripts import PageLanguage, page_language

# A section is a template in templates/sections/, given `run`, `facts` and `chart`, and its name
# here, in the order of the page. One that has nothing to show is empty.
SECTIONS = (
    "results", "recital", "loss", "learning_rate", "samples", "documents", "ledger", "settings",
)  # fmt: skip


def write_report(run_dir: Path, lang: PageLanguage | None = "en") -> Path:
    """Write `report.html` of a run, finished or not; an earlier one is replaced.

    It gives the config as it is in run.json, paths included; a secret's value isn't given. The
    same run gives the same bytes.

    Args:
        run_dir: the run's folder.
        lang: the page's language; None for that of the run's texts.

    Returns:
        the report's path.

    Raises:
        RunError: this isn't a run, or the report can't be written.
    """
    path = run_dir / "report.html"
    write_output(path, report(read_run(run_dir), lang))
    return path


def report(run: Run, lang: PageLanguage | None = "en") -> str:
    """The report's HTML, its words in a language; None for that of the run's texts."""
    w = Words.of(lang or report_language(run), "report")
    return render(
        "report.html.j2", run=run, sections=SECTIONS, chart=chart, w=w,
        ledger_sentences=ledger_sentences,
    )  # fmt: skip


def report_language(run: Run) -> PageLanguage:
    """The language of a run's texts, as far as it shows any; English where it isn't Russian."""
    recital, documents = recital_of(run.facts), document_losses_of(run.facts)
    texts = [text.prompt for text in recital.texts] if recital else []
    texts += [sample.prompt for sample in run.samples]
    texts += [one.start for one in documents.least] if documents else []
    return page_language("\n".join(texts))


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
