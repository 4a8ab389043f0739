"""Draws from the whole distribution, and what all draws share."""

from gptft.config.numbers import MAX_SEED
from gptft.config.settings import Flag, Setting, number, whole
from gptft.decoding import define

METHOD = define.Method(
    settings=(
        Setting("do_sample", Flag, False, "Draw tokens instead of taking the likeliest.", "search"),
        Setting("temperature", number(ge=1e-6), 1.0, "Below 1 safer, above 1 bolder.", "sampling",
                hint="For the likeliest token each time take greedy.", aliases=("temp",)),
        Setting("temperature_last", Flag, False, "Cuts come before temperature, dynatemp_range and "
                "smoothing_factor, not after them.", "sampling"),
        Setting("seed", whole(ge=0, le=MAX_SEED), None, "Of the draws; without it one is drawn and "
                "shown.", "sampling"),
        Setting("num_return_sequences", whole(ge=1, le=100_000), 1, "Texts a prompt.", "choice",
                aliases=("n",)),
    ),
    processors=(
        define.Processor(
            "temperature",
            define.TEMPERATURE + 10,
            lambda s, b: define.stock_processors().TemperatureLogitsWarper(s["temperature"]),
            settings=("temperature_last",),
            when=lambda s: s.is_on("temperature") and not s.is_on("dynatemp_range"),
        ),
    ),
    strategies=(
        define.sampling(
            "temperature",
            "Draws each token from the whole distribution, its logits divided by temperature: "
            "below 1 safer, above 1 bolder.",
            "Ackley, Hinton and Sejnowski 1985, A Learning Algorithm for Boltzmann Machines.",
        ),
    ),
)  # fmt: skip
