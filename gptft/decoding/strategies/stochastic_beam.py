"""Stochastic beam search: texts drawn without replacement."""

from collections.abc import Callable
from typing import Any

from gptft.decoding import define
from gptft.decoding.strategies.beam import check_beams, drawn_beam_fields


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.stochastic_beams import stochastic_beam_search

    return stochastic_beam_search


METHOD = define.Method(
    strategies=(
        define.Strategy(
            name="stochastic_beam",
            description="Draws num_beams different texts at once, each as likely as sampling would "
            "draw it.",
            source="Kool, van Hoof and Welling 2019 (1903.06059).",
            takes=("num_beams", "temperature", define.ALWAYS, "num_return_sequences"),
            defaults={"num_beams": 4},
            draws="always",
            loop=_loop,
            generation=drawn_beam_fields,
            check=check_beams,
        ),
    ),
)
