"""Several texts drawn, of which the best are returned: by likelihood, by vote, by likeness."""

from collections.abc import Iterator

from gptft.config.settings import Setting, Text, whole
from gptft.decoding import define
from gptft.decoding.known_model import problems


def _check(settings: define.Values) -> Iterator[str]:
    texts, drawn = settings["num_return_sequences"], settings["num_candidates"]
    if texts > drawn:
        yield (
            f"num_return_sequences is {texts}, more than num_candidates, {drawn}. Raise "
            "num_candidates."
        )


def _check_answer(settings: define.Values) -> Iterator[str]:
    from gptft.decoding.candidates import answer_finder

    yield from _check(settings)
    if settings.is_on("answer_pattern"):
        yield from problems(lambda: answer_finder(settings["answer_pattern"]))


METHOD = define.Method(
    group="choice",
    settings=(
        Setting("num_candidates", whole(ge=2, le=100_000), 8,
                "Texts drawn, of which the best are returned.",
                aliases=("best_of",)),
        Setting("answer_pattern", Text, None, "A regular expression; its last match, or that of "
                "its group, is a text's answer."),
    ),
    strategies=(
        define.Strategy(
            name="best_of_n",
            description="Draws num_candidates texts and returns those of the highest mean "
            "log-probability.",
            source="Adiwardana et al. 2020 (2001.09977), sample and rank.",
            takes=("num_candidates", *define.SAMPLING),
            defaults={"top_p": 0.9},
            draws="always",
            asked_by=("num_candidates",),
            pick="best_of_n",
            check=_check,
        ),
        define.Strategy(
            name="self_consistency",
            description="Draws num_candidates texts and returns one with the answer that most of "
            "them give.",
            source="Wang et al. 2022 (2203.11171).",
            takes=("answer_pattern", "num_candidates", *define.SAMPLING),
            defaults={"temperature": 0.7},
            draws="always",
            asked_by=("answer_pattern",),
            pick="self_consistency",
            check=_check_answer,
        ),
        define.Strategy(
            name="mbr",
            description="Draws num_candidates texts and returns the one most like all others.",
            source="Eikema and Aziz 2020 (2005.10283).",
            takes=("num_candidates", *define.SAMPLING),
            draws="always",
            pick="mbr",
            check=_check,
        ),
    ),
)  # fmt: skip
