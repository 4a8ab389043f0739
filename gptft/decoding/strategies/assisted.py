"""Drafts by a small model, or by the model's own first layers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gptft.config.settings import Setting, Text, number, one_of, whole
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _small_model(settings: define.Values, batch: define.BatchContext) -> "PreTrainedModel":
    """The draft model, if it can see so long a text.

    With another tokenizer it counts differently; by how much shows only as the text is generated.
    """
    from gptft.decoding.limits import check_other_context
    from gptft.models.load import context_of

    draft = batch.auxiliary_models["assistant_model"]
    length, num_read = batch.prompt_length, settings["max_new_tokens"] - 1
    check_other_context("assistant_model", length, num_read=num_read, context=context_of(draft))
    return draft


def _first_layers(settings: define.Values, batch: define.BatchContext) -> "PreTrainedModel":
    from gptft.decoding.early_exit import first_layers

    return first_layers(batch.model, settings["assistant_early_exit"])


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    yield from model.length_problems("assistant_model", max_new_tokens=settings["max_new_tokens"])
    if settings.is_on(name := "assistant_early_exit"):
        yield from model.layer_problems(name, settings[name])


def _stand_ins(prompt: str, base_model: str | None) -> dict[str, Any]:
    return {"assistant_model": base_model}


_DRAFTS = (
    "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
)  # fmt: skip


def _fields(settings: define.Values) -> dict[str, Any]:
    return settings.named(*_DRAFTS)


_SINGLE = "drafts are checked for one text"

METHOD = define.Method(
    group="speed",
    settings=(
        Setting("assistant_model", Text, None, "A small model that drafts; its tokenizer may be "
                "another."),
        Setting("assistant_early_exit", whole(ge=1), 0, "The drafts come from the model's own "
                "first layers."),
        Setting("num_assistant_tokens", whole(ge=1), 5, "Tokens drafted at once."),
        Setting("num_assistant_tokens_schedule",
                one_of("constant", "heuristic", "heuristic_transient"), "constant",
                "Whether that number follows how well the drafts do."),
        Setting("assistant_confidence_threshold", number(ge=0, le=1), 0.0, "A draft ends where "
                "the drafting model is less sure than this."),
    ),
    strategies=(
        define.Strategy(
            name="assisted",
            description="Lets a small model draft some tokens and keeps those the model would have "
            "generated.",
            source="Leviathan et al. 2022 (2211.17192); Timor et al. 2025 (2502.05202) for another "
            "tokenizer.",
            takes=("assistant_model", *_DRAFTS, *define.DRAFTED),
            needs=("assistant_model",),
            draws="asked",
            asked_by=("assistant_model",),
            draft=_small_model,
            draft_fields=_fields,
            single=_SINGLE,
            conflicts=define.ONE_TOKEN_AT_A_TIME,
            stand_ins=_stand_ins,
        ),
        define.Strategy(
            name="early_exit",
            description="Lets the model's own first layers draft some tokens and keeps those all "
            "of it would have generated.",
            source="Elhoushi et al. 2024 (2404.16710).",
            takes=("assistant_early_exit", *_DRAFTS, *define.DRAFTED),
            defaults={"assistant_early_exit": 1},
            draws="asked",
            asked_by=("assistant_early_exit",),
            draft=_first_layers,
            draft_fields=_fields,
            single=_SINGLE,
            conflicts=define.ONE_TOKEN_AT_A_TIME,
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
