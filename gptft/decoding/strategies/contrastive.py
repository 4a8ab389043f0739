"""Contrastive search: likely tokens that are unlike the text so far."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gptft.config.settings import Setting, number
from gptft.decoding import define


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.contrastive import contrastive_search

    values = settings.named("penalty_alpha", "top_k")
    return partial(contrastive_search, **values, token_streamer=streamer)


def _check(settings: define.Values) -> Iterator[str]:
    if settings["top_k"] < 1:
        yield "top_k is 0, and contrastive chooses among the top_k likeliest tokens. Set top_k: 4."


METHOD = define.Method(
    group="search",
    settings=(
        Setting("penalty_alpha", number(ge=0, le=1), 0.0, "How much a candidate's likeness to "
                "the text so far counts against its probability."),
    ),
    strategies=(
        define.Strategy(
            name="contrastive",
            description="Takes of the top_k likeliest tokens the one that is likely and unlike the "
            "text so far.",
            source="Su et al. 2022 (2202.06417).",
            takes=("penalty_alpha", "top_k", define.ALWAYS),
            defaults={"penalty_alpha": 0.6, "top_k": 4},
            asked_by=("penalty_alpha",),
            loop=_loop,
            streams=True,
            conflicts="beams and draws: it takes the best-scored candidate",
            check=_check,
        ),
    ),
)  # fmt: skip
