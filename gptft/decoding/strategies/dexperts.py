"""DExperts: towards a model tuned on what is wanted, away from one tuned on what isn't."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gptft.config.settings import Setting, Text, number
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel
from gptft.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from gptft.decoding.auxiliary_logits import AuxiliaryLogits


def pull(
    expert: "AuxiliaryLogits | None",
    antiexpert: "AuxiliaryLogits | None",
    *,
    prompt_length: int,
    dexperts_alpha: float,
) -> define.Process:
    """A processor that makes of the logits z + dexperts_alpha * (z_expert - z_antiexpert).

    One that is missing counts as the model itself. The paper cuts the model's own tail before this
    (eq. 3); here top_p and its like cut what comes out.

    Args:
        expert: logits of the model tuned on what is wanted, after the same prompts.
        antiexpert: those of the model tuned on what isn't.
        prompt_length: of the main prompts, padding included.
        dexperts_alpha: how much they pull, 0 or more.

    Raises:
        ConfigError: there is neither; when it is called: the context of one of the two is full.
        ModelError: when it is called: one of the two has another vocabulary.

    Source: Liu et al. 2021 (2105.03023), eq. 2.
    """
    from gptft.decoding.auxiliary_logits import logits_of, where_possible

    if expert is None and antiexpert is None:
        raise ConfigError("dexperts needs expert_model, antiexpert_model or both.")

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        wanted, unwanted = (
            scores if one is None else logits_of(one, input_ids, scores, prompt_length)
            for one in (expert, antiexpert)
        )
        return where_possible(scores, scores + dexperts_alpha * (wanted - unwanted))

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from gptft.decoding.auxiliary_logits import AuxiliaryLogits

    expert, antiexpert = (
        AuxiliaryLogits(model, batch.input_ids, batch.attention_mask, name=name)
        if (model := batch.auxiliary_models.get(name)) is not None
        else None
        for name in ("expert_model", "antiexpert_model")
    )
    alpha = settings["dexperts_alpha"]
    return pull(expert, antiexpert, prompt_length=batch.prompt_length, dexperts_alpha=alpha)


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    for name in ("expert_model", "antiexpert_model"):
        yield from model.token_problems(name)
        yield from model.length_problems(name, max_new_tokens=settings["max_new_tokens"])


def _stand_ins(prompt: str, base_model: str | None) -> dict[str, Any]:
    return {"antiexpert_model": base_model}


METHOD = define.Method(
    group="other models",
    settings=(
        Setting("expert_model", Text, None, "A model tuned on what is wanted."),
        Setting("antiexpert_model", Text, None, "A model tuned on what isn't."),
        Setting("dexperts_alpha", number(ge=0), 0.0, "How much the two pull."),
    ),
    strategies=(
        define.Strategy(
            name="dexperts",
            description="Pulls each token towards a model tuned on what is wanted and away from "
            "one tuned on what isn't.",
            source="Liu et al. 2021 (2105.03023).",
            takes=("expert_model", "antiexpert_model", "dexperts_alpha", *define.ASKED_SAMPLING),
            defaults={"dexperts_alpha": 2.0},
            needs=("expert_model", "antiexpert_model"),
            draws="asked",
            asked_by=("expert_model", "antiexpert_model"),
            processors=(define.Processor("dexperts", define.OTHER_MODEL, _build),),
            conflicts="beams: their scores would be compared after being bent",
            stand_ins=_stand_ins,
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
