"""DoLa: tokens that the last layer prefers more than an early one does."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gptft.config.settings import Layers, Setting
from gptft.decoding import define


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.dola import dola_decoding

    layers = settings["dola_layers"]
    return partial(dola_decoding, dola_layers=layers, do_sample=settings.do_sample)


METHOD = define.Method(
    group="search",
    settings=(
        Setting("dola_layers", Layers, "low", "The early layers to contrast with: the lower half, "
                "the upper half, or numbers."),
    ),
    strategies=(
        define.Strategy(
            name="dola",
            description="Prefers tokens that the last layer prefers more than an early one does.",
            source="Chuang et al. 2023 (2309.03883).",
            takes=("dola_layers", *define.ASKED_SAMPLING),
            defaults={"repetition_penalty": 1.2},
            draws="asked",
            asked_by=("dola_layers",),
            loop=_loop,
        ),
    ),
)  # fmt: skip
