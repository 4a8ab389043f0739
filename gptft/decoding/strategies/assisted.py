"""Drafts by a small model, or by the model's own first layers."""

from typing import TYPE_CHECKING, Any

from gptft.config.settings import Setting, Text, number, one_of, whole
from gptft.decoding import define
from gptft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _small_model(settings: define.Values, batch: define.BatchContext) -> "PreTrainedModel":
    """The draft model, if it can see so long a text.

    With another tokenizer it counts differently; by how much shows only as the text is generated.
    """
    from gptft.models.load import context_of

    draft = batch.auxiliary_models["assistant_model"]
    context, most = context_of(draft), settings["max_new_tokens"]
    if context is not None and batch.prompt_length + most - 1 > context:
        raise ConfigError(
            f"assistant_model sees {context:,} tokens, and the prompt of {batch.prompt_length:,} "
            f"with max_new_tokens {most:,} is longer. Set max_new_tokens to "
            f"{max(context - batch.prompt_length + 1, 1):,} or less, or take another draft model."
        )
    return draft


def _first_layers(settings: define.Values, batch: define.BatchContext) -> "PreTrainedModel":
    from gptft.decoding.early_exit import first_layers

    return first_layers(batch.model, settings["assistant_early_exit"])


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
)  # fmt: skip
