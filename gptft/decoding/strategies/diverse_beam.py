"""Diverse beam search: groups of beams, each kept away from the earlier ones."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gptft.config.settings import Setting, number, whole
from gptft.decoding import define
from gptft.decoding.strategies.beam import BEAMS, beam_fields, check_beams


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.diverse_beams import diverse_beam_search

    return partial(diverse_beam_search, **settings.named("num_beam_groups", "diversity_penalty"))


def _check(settings: define.Values) -> Iterator[str]:
    yield from check_beams(settings)
    beams, groups = settings["num_beams"], settings["num_beam_groups"]
    if beams % groups:
        yield (
            f"num_beams is {beams}, which {groups} groups can't share evenly. Make num_beams a "
            "multiple of num_beam_groups."
        )


METHOD = define.Method(
    group="search",
    settings=(
        Setting("num_beam_groups", whole(ge=1, le=10_000), 1,
                "Groups of beams, each kept away from the earlier ones."),
        Setting("diversity_penalty", number(ge=0), 0.0, "Taken from a token's score for each "
                "earlier group that chose it at this step."),
    ),
    strategies=(
        define.Strategy(
            name="diverse_beam",
            description="Splits the beams into groups, each of which is kept away from what the "
            "earlier ones chose.",
            source="Vijayakumar et al. 2016 (1610.02424).",
            takes=("num_beam_groups", "diversity_penalty", *BEAMS),
            defaults={"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
            asked_by=("num_beam_groups",),
            loop=_loop,
            generation=beam_fields,
            check=_check,
        ),
    ),
)  # fmt: skip
