"""Guidance away from another prompt, and context-aware decoding, which is the same."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gptft.config.settings import Setting, Text, number
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, problems

if TYPE_CHECKING:
    from torch import Tensor

    from gptft.decoding.auxiliary_logits import AuxiliaryLogits


def guide(
    auxiliary: "AuxiliaryLogits", *, prompt_length: int, guidance_scale: float
) -> define.Process:
    """A processor that pulls away from what would follow another prompt.

    The logits become log p_other + guidance_scale * (log p - log p_other): 1 leaves the model as it
    is, above 1 leads away from the other prompt, 0 is the other prompt alone. Equal to
    transformers' own guidance, but for batches as well.

    With the scale 1 + alpha and the prompt without its context this is context-aware decoding,
    softmax((1 + alpha) * z_with - alpha * z_without): the two differ by a constant a step.

    Args:
        auxiliary: the same model's logits after the other prompts.
        prompt_length: of the main prompts, padding included.
        guidance_scale: 0 or more.

    Raises:
        ConfigError: when it is called: the other text no longer fits the context.
        ModelError: when it is called: the other model has another vocabulary.

    Source: Sanchez et al. 2023 (2306.17806), section 2; Shi et al. 2023 (2305.14739), section 2.
    """
    from gptft.decoding.auxiliary_logits import logits_of, where_possible

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        other = logits_of(auxiliary, input_ids, scores, prompt_length).log_softmax(dim=-1)
        guided = other + guidance_scale * (scores.log_softmax(dim=-1) - other)
        return where_possible(scores, guided)

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    """Away from the negative prompt, or from the last token of each prompt alone."""
    from gptft.decoding.auxiliary_logits import AuxiliaryLogits
    from gptft.decoding.encoding import encode_prompt

    name, others = "guidance_scale", batch.input_ids[:, -1:]  # (B, 1)
    if settings["negative_prompt"] is not None:
        ids = encode_prompt(batch.tokenizer, settings["negative_prompt"])
        name, others = "negative_prompt", others.new_tensor([ids] * len(others))
    auxiliary = AuxiliaryLogits(batch.model, others, others.new_ones(others.shape), name=name)
    scale = settings["guidance_scale"]
    return guide(auxiliary, prompt_length=batch.prompt_length, guidance_scale=scale)


def _build_context(settings: define.Values, batch: define.BatchContext) -> define.Process:
    """Away from the prompts alone; the batch's have the context before them."""
    import torch

    from gptft.decoding.auxiliary_logits import AuxiliaryLogits
    from gptft.decoding.encoding import encode_prompt, prefix_ids

    ids, before = batch.input_ids, prefix_ids(batch.tokenizer)
    in_context = len(encode_prompt(batch.tokenizer, settings["context"]))
    lengths = batch.attention_mask.sum(dim=1) - in_context  # (B,)
    if before:  # BOS begins the prompt alone, too, in place of the context's last tokens
        lengths = lengths + len(before)
    kept = max(int(lengths.max()), 1)
    places = torch.arange(kept, 0, -1, device=ids.device)  # counted from the end
    from_start = lengths.clamp(min=1)[:, None] - places  # (B, kept), 0 at each prompt's first id
    others = ids[:, -kept:].clone()
    for place, token in enumerate(before):
        others[from_start == place] = token
    auxiliary = AuxiliaryLogits(batch.model, others, (from_start >= 0).long(), name="context")
    scale = 1 + settings["context_alpha"]
    return guide(auxiliary, prompt_length=batch.prompt_length, guidance_scale=scale)


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    from gptft.decoding.limits import check_other_context

    if (text := settings["negative_prompt"]) is not None:
        length, num_read = len(model.encode_prompt(text)), settings["max_new_tokens"] - 1
        name, context = "negative_prompt", model.context
        yield from problems(
            lambda: check_other_context(name, length, num_read=num_read, context=context)
        )


def _check(settings: define.Values) -> Iterator[str]:
    if settings["negative_prompt"] is not None and not settings.is_on("guidance_scale"):
        yield (
            "negative_prompt does nothing with guidance_scale 1. Raise guidance_scale above 1, or "
            "leave negative_prompt out."
        )


def _first_half(prompt: str) -> str:
    r"""The first half of a prompt's words; all of it as a line where it has one word.

    >>> _first_half("Мороз и солнце; день чудесный!"), _first_half("Мороз")
    ('Мороз и', 'Мороз\n')
    """
    ends = [match.end() for match in re.finditer(r"\S+", prompt)]
    if not ends:
        return ""
    return prompt[: ends[len(ends) // 2 - 1]] if len(ends) > 1 else f"{prompt}\n"


def _stand_ins(prompt: str, base_model: str | None) -> dict[str, Any]:
    return {"context": _first_half(prompt)}


_CONFLICTS = "beams and drafts: the other text's memory would not follow them"

METHOD = define.Method(
    group="other models",
    settings=(
        Setting("guidance_scale", number(ge=0), 1.0, "Above 1: away from what follows the "
                "negative prompt."),
        Setting("negative_prompt", Text, None, "What not to continue; without it the last token of "
                "the prompt alone."),
        Setting("context", Text, None, "A text to answer from, put before the prompt."),
        Setting("context_alpha", number(ge=0), 0.0, "How much what the context changes is "
                "amplified."),
    ),
    strategies=(
        define.Strategy(
            name="guidance",
            description="Pulls each token away from what would follow a negative prompt.",
            source="Sanchez et al. 2023 (2306.17806).",
            takes=("guidance_scale", "negative_prompt", *define.ASKED_SAMPLING),
            defaults={"guidance_scale": 1.5},
            draws="asked",
            asked_by=("guidance_scale", "negative_prompt"),
            processors=(
                define.Processor("guidance_scale", define.OTHER_MODEL, _build,
                                 when=lambda settings: settings.is_on("guidance_scale")),
            ),
            conflicts=_CONFLICTS,
            check=_check,
        ),
        define.Strategy(
            name="context_aware",
            description="Answers from a context, amplifying what the context changes.",
            source="Shi et al. 2023 (2305.14739).",
            takes=("context", "context_alpha", *define.ASKED_SAMPLING),
            defaults={"context_alpha": 0.5},
            needs=("context",),
            draws="asked",
            asked_by=("context",),
            processors=(define.Processor("context_alpha", define.OTHER_MODEL, _build_context),),
            conflicts=_CONFLICTS,
            by_beginning=True,
            stand_ins=_stand_ins,
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
