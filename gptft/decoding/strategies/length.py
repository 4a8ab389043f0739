"""How long a text may and must be, and what ends it."""

from collections.abc import Iterator
from typing import Any

from gptft.config.settings import Decay, Setting, Texts, number, whole, whole_numbers
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, problems

_FORM, _stock = define.FORM, define.stock_processors


def _decay(settings: define.Values, batch: define.BatchContext) -> Any:
    decay = tuple(settings["exponential_decay_length_penalty"])
    return _stock().ExponentialDecayLengthPenalty(decay, list(batch.eos), batch.prompt_length)


def _forced_eos(settings: define.Values, batch: define.BatchContext) -> Any:
    ids = batch.known_ids(settings["forced_eos_token_id"], "forced_eos_token_id")
    longest = batch.prompt_length + settings["max_new_tokens"]
    return _stock().ForcedEOSTokenLogitsProcessor(longest, ids, device=batch.device)


def _check(settings: define.Values) -> Iterator[str]:
    least, most = settings["min_new_tokens"], settings["max_new_tokens"]
    if least > most:
        yield (
            f"min_new_tokens is {least:,}, more than max_new_tokens, {most:,}. "
            "Lower the one or raise the other."
        )
    decay = settings["exponential_decay_length_penalty"]
    if decay and decay[0] >= most:
        yield (
            f"exponential_decay_length_penalty starts after {decay[0]:,.0f} tokens, and "
            f"max_new_tokens is {most:,}. Let it start earlier."
        )


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    name = "forced_eos_token_id"
    yield from problems(lambda: model.known_ids(settings[name], name))


METHOD = define.Method(
    group="length",
    settings=(
        Setting("max_new_tokens", whole(ge=1), 60, "Tokens to generate at most.",
                aliases=("max_length", "max_tokens", "n_predict")),
        Setting("min_new_tokens", whole(ge=0), 0, "No EOS before this many tokens.",
                aliases=("min_length",)),
        Setting("stop_strings", Texts, [], "End the text before the first of these.",
                aliases=("stop",)),
        Setting("max_time", number(gt=0), None, "Seconds after which a text ends.",
                hint="Leave it out for no limit."),
        Setting("exponential_decay_length_penalty", Decay, None, "After this many new tokens EOS "
                "becomes likelier by this factor to the power of the tokens since."),
        Setting("forced_eos_token_id", whole_numbers(ge=0), [], "Ids one of which is the last "
                "token of a text that reaches max_new_tokens."),
    ),
    processors=(
        define.Processor("min_new_tokens", define.BAN + 45, lambda s, b: (
            _stock().MinNewTokensLengthLogitsProcessor(
                b.prompt_length, s["min_new_tokens"], list(b.eos), device=b.device)),
            needs_eos=True),
        define.Processor("exponential_decay_length_penalty", _FORM + 20, _decay, needs_eos=True),
        define.Processor("forced_eos_token_id", _FORM + 40, _forced_eos),
    ),
    check=_check,
    check_model=_check_model,
)  # fmt: skip
