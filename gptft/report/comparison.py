"""Rows of `analysis.compare` -> one self-contained page to compare strategies on a prompt."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from gptft.analysis.compare import view
from gptft.analysis.compare.results import Metric, StrategyResult, equal_earlier, known_metrics
from gptft.decoding.settings import MODEL_SETTINGS
from gptft.decoding.strategies import STRATEGIES
from gptft.report.language import Words, page_words
from gptft.report.render import render
from gptft.report.values import one_line, visible
from gptft.terminal.words import percent
from gptft.text.scripts import PageLanguage, page_language

if TYPE_CHECKING:
    from gptft.decoding.define import Strategy

_NO_PAPER = "No paper: "


def comparison_html(
    rows: Sequence[StrategyResult], *, model: str, prompt: str, lang: PageLanguage | None = "en"
) -> str:
    """The page.

    Args:
        rows: see `analysis.compare.compare`.
        model: what to call the model.
        prompt: that was continued.
        lang: the language of its words; None for that of the prompt.
    """
    page = _Page(rows, Words.of(lang or page_language(prompt), "comparisons"))
    return render(
        "comparison.html.j2", rows=rows, model=model, prompt=prompt, page=page, w=page.words,
        metrics=page.metrics, same=page.same, strategies=STRATEGIES, view=view,
    )  # fmt: skip


class _Page:
    """What the template asks of a comparison."""

    def __init__(self, rows: Sequence[StrategyResult], words: Words) -> None:
        self._rows, self.words = rows, words
        self.metrics = known_metrics(rows)
        self.same: Mapping[int, int] = equal_earlier(rows)
        self._best = {metric.name: metric.best_of(rows) for metric in self.metrics}

    @property
    def title(self) -> str:
        """How many strategies there are."""
        return self.words.say(
            "strategies_title", strategies=self.words.count(len(self._rows), "strategy")
        )

    def metric_title(self, metric: Metric) -> str:
        """A metric's name; that of `distinct_2` ends with its number."""
        name, _, n = metric.name.rpartition("_")
        if name == "distinct":
            return self.words.say("metric_distinct", n=n)
        return self.words.t[f"metric_{metric.name}"]

    def meaning(self, metric: Metric) -> str:
        """What a metric says."""
        return self.words.t[f"about_{metric.name}"]

    def shown(self, metric: Metric, row: StrategyResult) -> str:
        """A metric's value; a dash where there is none."""
        return self.words.local(metric.shown(row))

    def is_best(self, metric: Metric, place: int) -> bool:
        """Whether a row has the best value."""
        return place in self._best[metric.name]

    def same_text(self, place: int) -> str:
        """That a row has the text of an earlier one."""
        return self.words.say("same_text", label=one_line(self._rows[self.same[place]].label))

    def description(self, strategy: "Strategy") -> str:
        """What a strategy does."""
        if self.words.lang == "en":
            return strategy.description
        return page_words(self.words.lang, "strategies")[strategy.name]

    def source(self, strategy: "Strategy") -> Markup:
        """Where a strategy was published, in the words of that place."""
        source, said = strategy.source.removeprefix(_NO_PAPER), ""
        if source != strategy.source:
            said = f"{self.words.t['no_paper']} "
        return Markup('{}<span lang="en">{}</span>').format(said, source)

    def stand_ins(self, row: StrategyResult) -> Markup:
        """What was taken in place of what nobody gave; empty where nothing was."""
        if not row.entry.stand_ins:
            return Markup()
        _, _, values = view.stand_ins_in_words(row).partition(": ")
        return Markup('{} <span lang="en">{}</span>').format(
            self.words.t["stand_in"], visible(values)
        )

    def left_out(self, row: StrategyResult) -> Markup:
        """Why there is no text: what the strategy needs, or what its error says, in English."""
        strategy, entry, w = STRATEGIES[row.entry.strategy], row.entry, self.words
        if entry.settings is None and not entry.stand_ins and strategy.needs and w.lang != "en":
            is_model = any(name in MODEL_SETTINGS for name in strategy.needs)
            names = Markup(f" {w.t['or']} ").join(
                Markup('<span lang="en">{}</span>').format(name) for name in strategy.needs
            )
            return Markup(w.t["needs_model" if is_model else "needs"]).format(names=names)
        said = escape(visible(row.left_out or ""))
        return said if w.lang == "en" else Markup('<span lang="en">{}</span>').format(said)

    def ended(self, row: StrategyResult) -> str:
        """Why a text ended, and how much drafts helped."""
        measured, w = row.measured, self.words
        if measured is None:
            return ""
        said, speed = [w.t.get(f"stopped_{measured.stopped}", "")], measured.speed
        if view.drafts_in_words(row):
            kept = speed.draft_acceptance
            said.append(
                w.say(
                    "drafts" if kept is None else "drafts_kept",
                    tokens=w.local(f"{speed.tokens_per_call:.2f}"),
                    share=w.local(percent(kept, decimals=0)),
                )
            )
        return " ".join(said)
