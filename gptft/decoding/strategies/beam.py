"""Beam search, and beams that draw."""

from collections.abc import Callable, Iterator
from typing import Any

from gptft.config.settings import EarlyStopping, Setting, number, whole
from gptft.decoding import define

BEAMS = ("num_beams", "length_penalty", "early_stopping", define.ALWAYS, "num_return_sequences")


def _search(
    settings: define.Values, batch: define.BatchContext, streamer: Any
) -> Callable[..., Any]:
    from gptft.decoding.loops.diverse_beams import diverse_beam_search

    return diverse_beam_search  # in one group


def _sampling(
    settings: define.Values, batch: define.BatchContext, streamer: Any
) -> Callable[..., Any]:
    from gptft.decoding.loops.beam_sampling import beam_sampling

    return beam_sampling


def beam_fields(settings: define.Values) -> dict[str, Any]:
    """The fields of GenerationConfig for a search with beams."""
    return settings.named("length_penalty", "early_stopping")


def drawn_beam_fields(settings: define.Values) -> dict[str, Any]:
    """Those of a search whose loop draws itself."""
    return {**beam_fields(settings), "do_sample": False}


def check_beams(settings: define.Values) -> Iterator[str]:
    """What is wrong with the number of beams, a message each."""
    beams, texts = settings["num_beams"], settings["num_return_sequences"]
    if beams < 2:
        yield f"num_beams is {beams}: one beam is no beam search. Take greedy, or raise it."
    if texts > beams:
        yield (
            f"num_return_sequences is {texts}, more than num_beams, {beams}: a beam gives one "
            "text. Raise num_beams."
        )


METHOD = define.Method(
    group="search",
    settings=(
        Setting("num_beams", whole(ge=1, le=10_000), 1, "Texts kept at once."),
        # It is the exponent of a text's length, which has to stay a number.
        Setting("length_penalty", number(ge=-10, le=10), 1.0, "Beams: above 0 favours longer "
                "texts, below 0 shorter ones."),
        Setting("early_stopping", EarlyStopping, False, "Beams: stop at num_beams ended texts; "
                "never waits until no better one is possible."),
    ),
    strategies=(
        define.Strategy(
            name="beam",
            description="Keeps the num_beams likeliest texts at each step and returns the best.",
            source="Sutskever et al. 2014 (1409.3215), section 3.2.",
            takes=BEAMS,
            defaults={"num_beams": 5},
            asked_by=("num_beams",),
            when_drawing="beam_sampling",
            loop=_search,
            generation=beam_fields,
            check=check_beams,
        ),
        define.Strategy(
            name="beam_sampling",
            description="Keeps num_beams texts at once and draws their continuations instead of "
            "taking the likeliest.",
            source="No paper: beam-search multinomial sampling of transformers' `generate`.",
            takes=(*BEAMS, define.CUTS),
            defaults={"num_beams": 5},
            draws="always",
            loop=_sampling,
            generation=drawn_beam_fields,
            check=check_beams,
        ),
    ),
)  # fmt: skip
