"""DoLa: tokens that the last layer prefers more than an early one does."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gptft.config.settings import Layers, Setting
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, problems


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.dola import dola_decoding

    layers = settings["dola_layers"]
    return partial(dola_decoding, dola_layers=layers, do_sample=settings.do_sample)


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    from gptft.decoding.layers import early_layers

    layers, num_layers = settings["dola_layers"], model.num_layers
    if num_layers is not None and not isinstance(layers, str):
        yield from problems(lambda: early_layers(layers, num_layers=num_layers, tied=False))


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
    check_model=_check_model,
)  # fmt: skip
