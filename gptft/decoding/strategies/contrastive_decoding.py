"""Contrastive decoding: tokens that the model prefers more than an amateur does."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gptft.config.settings import Setting, Text, number, whole
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel

if TYPE_CHECKING:
    from torch import Tensor

    from gptft.decoding.auxiliary_logits import AuxiliaryLogits


def contrast(
    auxiliary: "AuxiliaryLogits",
    *,
    prompt_length: int,
    cd_alpha: float,
    cd_beta: float,
    amateur_temperature: float = 1.0,
) -> define.Process:
    """A processor that prefers tokens that the model, here the expert, prefers to an amateur.

    On tokens with p_expert >= cd_alpha * max p_expert the logits become
    (1 + cd_beta) * s_expert - cd_beta * s_amateur / amateur_temperature; all others -inf.

    That is the form of O'Brien and Lewis. Li et al. score a token by log p_expert - log p_amateur
    on the same set, the amateur's softmax taken at its temperature. The two differ by a constant a
    step, which no softmax and no argmax sees, and by how much the amateur weighs: with cd_beta the
    order is that of log p_expert - cd_beta / (1 + cd_beta) * log p_amateur, which comes to the
    original's as cd_beta grows; 0 is the expert alone, its unlikely tokens cut. Li et al. search
    with beams; here a token is taken or drawn at each step. An amateur that sees less of the prompt
    (their section 3.4) has a shorter one.

    Args:
        auxiliary: the amateur's logits, most often after the same prompts.
        prompt_length: of the main prompts, padding included.
        cd_alpha: the least share of the highest probability, above 0, at most 1.
        cd_beta: how much the amateur weighs, 0 or more.
        amateur_temperature: the amateur's logits are divided by it, above 0.

    Raises:
        ConfigError: when it is called: the amateur's context is full.
        ModelError: when it is called: the amateur has another vocabulary.

    Source: Li et al. 2023 (2210.15097), section 3; O'Brien and Lewis 2023 (2309.09117).
    """
    from gptft.decoding.auxiliary_logits import logits_of, where_possible

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        amateur = logits_of(auxiliary, input_ids, scores, prompt_length)
        contrasted = (1 + cd_beta) * scores - cd_beta / amateur_temperature * amateur
        # p >= alpha * max p, without the softmax that both sides share
        implausible = scores < scores.max(dim=-1, keepdim=True).values + math.log(cd_alpha)
        return where_possible(scores, contrasted.masked_fill(implausible, -math.inf))

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from gptft.decoding.auxiliary_logits import AuxiliaryLogits
    from gptft.decoding.early_exit import first_layers

    layers = settings["amateur_layers"]
    amateur = (
        first_layers(batch.model, layers) if layers else batch.auxiliary_models["amateur_model"]
    )
    return contrast(
        AuxiliaryLogits(amateur, batch.input_ids, batch.attention_mask, name="amateur_model"),
        prompt_length=batch.prompt_length,
        **settings.named("cd_alpha", "cd_beta", "amateur_temperature"),
    )


def _check(settings: define.Values) -> Iterator[str]:
    if settings.is_on("amateur_model") and settings.is_on("amateur_layers"):
        yield "amateur_model and amateur_layers can't both be given: there is one amateur."


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    yield from model.token_problems("amateur_model")
    yield from model.length_problems("amateur_model", max_new_tokens=settings["max_new_tokens"])
    if settings.is_on(name := "amateur_layers"):
        yield from model.layer_problems(name, settings[name])


def _stand_ins(prompt: str, base_model: str | None) -> dict[str, Any]:
    return {"amateur_model": base_model} if base_model else {"amateur_layers": 1}


_OWN = ("amateur_model", "amateur_layers", "amateur_temperature", "cd_alpha", "cd_beta")

METHOD = define.Method(
    group="other models",
    settings=(
        Setting("amateur_model", Text, None, "A weaker model whose preferences are subtracted."),
        Setting("amateur_layers", whole(ge=0), 0, "The amateur is the model's own first layers; 0 "
                "is off."),
        Setting("amateur_temperature", number(gt=0), 1.0, "The amateur's logits are divided by "
                "it."),
        Setting("cd_alpha", number(gt=0, le=1), 0.1, "Only tokens at least this share as likely "
                "as the likeliest."),
        Setting("cd_beta", number(ge=0), 0.0, "How much of the amateur's logits is subtracted."),
    ),
    strategies=(
        define.Strategy(
            name="contrastive_decoding",
            description="Prefers tokens that the model prefers more than an amateur does.",
            source="Li et al. 2023 (2210.15097); as O'Brien and Lewis 2023 (2309.09117) write it.",
            takes=(*_OWN, *define.ASKED_SAMPLING),
            defaults={"cd_beta": 0.5},
            needs=("amateur_model", "amateur_layers"),
            draws="asked",
            asked_by=("amateur_model", "amateur_layers"),
            processors=(define.Processor("amateur", define.OTHER_MODEL, _build),),
            conflicts="beams: their scores would be compared after being bent",
            check=_check,
            stand_ins=_stand_ins,
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
