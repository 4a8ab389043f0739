"""Constrained beam search: the likeliest text that holds every one of some words."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gptft.config.settings import Setting, Words
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, ModelIds, problems
from gptft.decoding.strategies.beam import BEAMS, beam_fields, check_beams


def _loop(settings: define.Values, batch: define.BatchContext, streamer: Any) -> Callable[..., Any]:
    from gptft.decoding.loops.constrained_beams import constrained_beam_search

    return partial(constrained_beam_search, constraints=_constraints(settings, batch))


def _constraints(settings: define.Values, model: ModelIds) -> list[list[list[int]]]:
    """The ids of each word, after a space and as it is; of any of several words."""

    def ways(word: str | list[str]) -> list[list[int]]:
        words = [word] if isinstance(word, str) else word
        texts = [t for w in words for t in ([w] if w[0].isspace() else [f" {w}", w])]
        return [ids for text in texts if (ids := model.encode(text))]

    return [ways(word) for word in settings["force_words"]]


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    from gptft.decoding.loops.required_words import read_required_words

    words = _constraints(settings, model)
    room = settings["max_new_tokens"] - settings.is_on("forced_eos_token_id")
    yield from problems(lambda: read_required_words(words, max_new_tokens=room))


def _fields(settings: define.Values) -> dict[str, Any]:
    # Ours comes after it and does the same; the loop reads from the field that it has less room.
    forced = settings["forced_eos_token_id"] or None
    return {**beam_fields(settings), "forced_eos_token_id": forced}


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
            generation=_fields,
            check=check_beams,
            stand_ins=lambda prompt, base_model: {"force_words": re.findall(r"\w+", prompt)[:1]},
        ),
    ),
    check_model=_check_model,
)  # fmt: skip
