"""Text that matches a regular expression."""

from gptft.config.settings import Setting, Text
from gptft.decoding import define

_SENTENCE = "[^.!?]{1,80}[.!?]"


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from gptft.decoding.constraints import allowed_by_regex, constrain

    return constrain(batch, allowed_by_regex(settings["regex"]))


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
            stand_ins=lambda prompt, base_model: {"regex": _SENTENCE},
        ),
    ),
)  # fmt: skip
