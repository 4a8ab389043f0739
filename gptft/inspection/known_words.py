"""Models and published ones beside them -> rows of a table."""

from collections.abc import Sequence

from gptft.inspection.known_models import KNOWN_MODELS
from gptft.inspection.model_facts import ModelFacts
from gptft.inspection.model_words import Row, cut, number_text
from gptft.terminal.text import escaped

KNOWN_HEADS = (
    "model", "parameters", "layers", "width", "heads", "context", "vocabulary", "trained on",
)  # fmt: skip


def known_rows(models: Sequence[ModelFacts]) -> list[tuple[str, ...]]:
    """The models, and published ones beside them."""
    own = [
        (
            escaped(facts.model),
            number_text(facts.parameters.total if facts.parameters else None),
            number_text(facts.anatomy.layers), number_text(facts.anatomy.width),
            number_text(facts.anatomy.heads), number_text(facts.anatomy.context),
            number_text(facts.anatomy.vocab_size), cut(facts.card.data or ""),
        )
        for facts in models
    ]  # fmt: skip
    known = [
        (one.name, *(f"{n:,}" for n in (one.parameters, one.layers, one.width, one.heads,
                                        one.context, one.vocab_size)), one.data)
        for one in KNOWN_MODELS
    ]  # fmt: skip
    return [*own, *known]


def known_data() -> list[Row]:
    """What published models were trained on, those of one text together."""
    names: dict[str, list[str]] = {}
    for one in KNOWN_MODELS:
        names.setdefault(one.data, []).append(one.name)
    return [(", ".join(found), data) for data, found in names.items()]
