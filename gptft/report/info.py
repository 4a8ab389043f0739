"""Facts on models -> one self-contained page of them."""

from collections.abc import Sequence

from gptft.inspection import known_words as known
from gptft.inspection import model_words as words
from gptft.inspection.model_facts import ModelFacts
from gptft.report.render import render


def info_html(models: Sequence[ModelFacts]) -> str:
    """The page of one model, or of several side by side."""
    return render("info.html.j2", models=models, words=words, known=known)
