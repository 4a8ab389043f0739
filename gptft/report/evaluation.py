"""Models side by side on documents -> one self-contained page of it."""

from collections.abc import Iterator

from gptft.analysis.evaluate import view
from gptft.analysis.evaluate.bootstrap import NUM_RESAMPLES
from gptft.analysis.evaluate.results import Evaluation
from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.values import one_line
from gptft.text.scripts import PageLanguage


def evaluation_html(found: Evaluation, lang: PageLanguage = "en") -> str:
    """The page, its words in a language."""
    words = Words.of(lang, "comparisons")

    def figure(cell: str) -> str:
        """A figure, perhaps with its interval."""
        return words.local(cell).replace(" to ", f" {words.t['to']} ")

    return render(
        "evaluation.html.j2", found=found, view=view, w=words, figure=figure,
        notes=[*_notes(found, words)], read=_read(found, words),
        heads=["ECE" if name == "ECE" else words.t[name] for name in _heads(found)],
    )  # fmt: skip


def _read(found: Evaluation, words: Words) -> str:
    """Which models, and what was read."""
    return words.say(
        "eval_read", names=", ".join(one_line(one.model) for one in found.models),
        documents=words.count(len(found.table), "document"),
        sources=words.count(len([*found.table.by_source()]), "source"),
        bytes=words.count(int(found.models[0].num_bytes.sum()), "byte"),
    )  # fmt: skip


def _heads(found: Evaluation) -> tuple[str, ...]:
    """The columns of `view.model_rows`, by the key of each one's name."""
    several = len(found.models) > 1
    middle = ("less_the_first", "bits_a_character") if several else ("bits_a_character", "right")
    return ("model", "bits_a_byte", *middle, "loss", "perplexity", "tokens", "ECE")


def _notes(found: Evaluation, words: Words) -> Iterator[str]:
    """Sentences on how the figures are to be read."""
    if len(found.table) > 1:
        yield words.say("interval", draws=words.whole(NUM_RESAMPLES), seed=found.seed)
    else:
        yield words.t["no_interval"]
    figures = [one.figures() for one in found.models]
    if len({one.num_tokens for one in figures}) > 1:
        yield words.t["other_tokens"]
    if len({one.num_bytes for one in figures}) > 1:
        yield words.t["other_bytes"]
    if found.counts_eos:
        yield words.t["counts_eos"]
