"""The penalties on repetition that transformers has, for every strategy."""

from typing import Any

from gptft.config.settings import Setting, number, whole
from gptft.decoding import define

_PENALTY, _stock = define.PENALTY, define.stock_processors


def _prompt_penalty(settings: define.Values, batch: define.BatchContext) -> Any:
    prompts = batch.input_ids.repeat_interleave(batch.rows, dim=0)  # (B * rows, T)
    penalty = settings["encoder_repetition_penalty"]
    return _stock().EncoderRepetitionPenaltyLogitsProcessor(penalty, prompts)


METHOD = define.Method(
    group="repetition",
    settings=(
        Setting("repetition_penalty", number(gt=0), 1.0, "Above 1: tokens already in the text "
                "become less likely.", hint="1 turns it off.", aliases=("repeat_penalty",)),
        Setting("encoder_repetition_penalty", number(gt=0), 1.0, "Above 1: tokens of the prompt "
                "become likelier.", hint="1 turns it off."),
        Setting("no_repeat_ngram_size", whole(ge=0, le=10_000), 0,
                "Never the same n tokens twice; 0 is off.", hint="0 turns it off."),
        Setting("encoder_no_repeat_ngram_size", whole(ge=0, le=10_000), 0,
                "No n tokens of the prompt again; 0 is off.", hint="0 turns it off."),
    ),
    processors=(
        define.Processor("encoder_repetition_penalty", _PENALTY + 10, _prompt_penalty,
                         sees_padding=True),
        define.Processor("repetition_penalty", _PENALTY + 20, lambda s, b: (
            _stock().RepetitionPenaltyLogitsProcessor(s["repetition_penalty"])), sees_padding=True),
        define.Processor("no_repeat_ngram_size", define.BAN + 5, lambda s, b: (
            _stock().NoRepeatNGramLogitsProcessor(s["no_repeat_ngram_size"])), sees_padding=True),
        define.Processor("encoder_no_repeat_ngram_size", define.BAN + 6, lambda s, b: (
            _stock().EncoderNoRepeatNGramLogitsProcessor(
                s["encoder_no_repeat_ngram_size"], b.input_ids)), sees_padding=True),
    ),
)  # fmt: skip
