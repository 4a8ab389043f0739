"""Lookahead decoding: guesses in parallel, tried as drafts."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gptft.config.settings import Setting, whole
from gptft.decoding import define

_OWN = ("lookahead_window", "lookahead_ngram_size", "lookahead_guesses")


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.lookahead import lookahead_decoding

    return partial(lookahead_decoding, **settings.named(*_OWN))


METHOD = define.Method(
    group="speed",
    settings=(
        Setting("lookahead_window", whole(ge=1, le=1000), 5, "Tokens guessed ahead at once."),
        Setting("lookahead_ngram_size", whole(ge=2, le=1000), 3, "Tokens of a guess that is kept."),
        Setting("lookahead_guesses", whole(ge=1, le=1000), 5, "Guesses tried at once."),
    ),
    strategies=(
        define.Strategy(
            name="lookahead",
            description="Guesses ahead in parallel, keeps runs of tokens that came up, and tries "
            "them as drafts.",
            source="Fu et al. 2024 (2402.02057).",
            takes=(*_OWN, define.ALWAYS),
            asked_by=("lookahead_window",),
            loop=_loop,
            single="guesses are checked for one text",
            conflicts=define.ONE_TOKEN_AT_A_TIME,
        ),
    ),
)  # fmt: skip
