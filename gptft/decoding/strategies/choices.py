"""Text that is one of a few choices."""

from collections.abc import Iterator

from gptft.config.settings import Setting, Texts
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, problems
from gptft.decoding.prompts.templates import CYRILLIC


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from gptft.decoding.constraints import constrain
    from gptft.decoding.matchers import allowed_by_choices

    return constrain(batch, allowed_by_choices(settings["choices"]))


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    from gptft.decoding.matchers import allowed_by_choices

    if choices := settings["choices"]:
        yield from problems(lambda: allowed_by_choices(choices).check(model.vocabulary))


def _yes_or_no(prompt: str) -> list[str]:
    space = "" if not prompt or prompt[-1].isspace() else " "
    return [space + word for word in (("да", "нет") if CYRILLIC.search(prompt) else ("yes", "no"))]


METHOD = define.Method(
    group="search",
    settings=(Setting("choices", Texts, [], "The text is one of these."),),
    strategies=(
        define.Strategy(
            name="choices",
            description="Generates one of the texts given, token by token along their tree.",
            source="No paper: De Cao et al. 2021 (2010.00904), section 3.2, constrains beams in "
            "this way.",
            takes=("choices", *define.ASKED_SAMPLING),
            needs=("choices",),
            draws="asked",
            asked_by=("choices",),
            processors=(define.Processor("choices", define.FORM + 30, _build),),
            by_beginning=True,
            stand_ins=lambda prompt, base_model: {"choices": _yes_or_no(prompt)},
        ),
    ),
    check_model=_check_model,
)
