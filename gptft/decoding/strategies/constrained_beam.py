"""Constrained beam search: the likeliest text that holds every one of some words."""

from collections.abc import Callable
from functools import partial
from typing import Any

from gptft.config.settings import Setting, Words
from gptft.decoding import define
from gptft.decoding.strategies.beam import BEAMS, beam_fields, check_beams


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.encoding import encode_bare
    from gptft.decoding.loops.constrained_beams import constrained_beam_search

    def ways(word: str | list[str]) -> list[list[int]]:
        """The ids of a word, after a space and as it is; of any of several words."""
        words = [word] if isinstance(word, str) else word
        texts = [t for w in words for t in ([w] if w[0].isspace() else [f" {w}", w])]
        return [ids for text in texts if (ids := encode_bare(batch.tokenizer, text))]

    constraints = [ways(word) for word in settings["force_words"]]
    return partial(constrained_beam_search, constraints=constraints)


METHOD = define.Method(
    group="search",
    settings=(
        Setting("force_words", Words, [], "Words the text must hold; a list among them means any "
                "one of its words.", aliases=("force_words_ids",)),
    ),
    strategies=(
        define.Strategy(
            name="constrained_beam",
            description="Finds the likeliest text that holds every one of force_words.",
            source="Post and Vilar 2018 (1804.06609).",
            takes=("force_words", *BEAMS),
            defaults={"num_beams": 8},
            needs=("force_words",),
            asked_by=("force_words",),
            loop=_loop,
            generation=beam_fields,
            check=check_beams,
            stand_ins=lambda prompt, base_model: {"force_words": define.words_of(prompt)[:1]},
        ),
    ),
)  # fmt: skip
