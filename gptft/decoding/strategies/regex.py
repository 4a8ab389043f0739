"""Text that matches a regular expression."""

from collections.abc import Iterator

from gptft.config.settings import Setting, Text
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, problems

_SENTENCE = "[^.!?]{1,80}[.!?]"


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from gptft.decoding.constraints import constrain
    from gptft.decoding.matchers import allowed_by_regex

    return constrain(batch, allowed_by_regex(settings["regex"]))


def _check(settings: define.Values) -> Iterator[str]:
    from gptft.decoding.matchers import allowed_by_regex

    if pattern := settings["regex"]:
        yield from problems(lambda: allowed_by_regex(pattern))


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    from gptft.decoding.matchers import allowed_by_regex

    if pattern := settings["regex"]:
        yield from problems(lambda: allowed_by_regex(pattern).check(model.vocabulary))


METHOD = define.Method(
    group="search",
    settings=(
        Setting("regex", Text, None, "The text matches this regular expression."),
    ),
    strategies=(
        define.Strategy(
            name="regex",
            description="Generates only what can still become a match of the regular expression, "
            "to its end.",
            source="Willard and Louf 2023 (2307.09702).",
            takes=("regex", *define.ASKED_SAMPLING),
            needs=("regex",),
            draws="asked",
            asked_by=("regex",),
            processors=(define.Processor("regex", define.FORM + 30, _build),),
            by_beginning=True,
            check=_check,
            stand_ins=lambda prompt, base_model: {"regex": _SENTENCE},
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
