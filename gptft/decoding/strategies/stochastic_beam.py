"""Stochastic beam search: texts drawn without replacement."""

from collections.abc import Callable
from typing import Any

from gptft.decoding import define
from gptft.decoding.strategies.beam import beam_fields, check_beams


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.stochastic_beams import stochastic_beam_search

    return stochastic_beam_search


def _fields(settings: define.Values) -> dict[str, Any]:
    return {**beam_fields(settings), "do_sample": False}  # the loop draws, not transformers


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
            generation=_fields,
            check=check_beams,
        ),
    ),
)
