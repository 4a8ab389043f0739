"""A text longer than the model's context, written through a window that slides.

In: a prompt's ids and `Settings` whose length doesn't fit. Out: rows of new ids, as
`rows.generate_batch` gives them. What has left the window the model has forgotten.
"""

import time
from collections.abc import Sequence
from typing import Any

from gptft.decoding.batch import generate_batch
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import Settings
from gptft.errors import ConfigError
from gptft.models.load import context_of

_BY_THEIR_BEGINNING = ("choices", "regex", "context_aware")  # what to write depends on it


def generate_windows(
    loaded: LoadedModel, ids: Sequence[int], *, settings: Settings
) -> list[list[int]]:
    """Write with the end of the text so far as the prompt, as often as it takes.

    Each time up to half the context is written, so that at least about half of it is memory. A text
    that needs one window only may be written by any strategy.

    Args:
        loaded: the model, one with a limit.
        ids: the whole prompt.
        settings: see `resolve_settings`.

    Raises:
        ConfigError: a strategy that must not forget the beginning, or more than one window and one
            that has to see the text as a whole.
    """
    context = context_of(loaded.model)
    most = settings["max_new_tokens"]
    if context is None:
        return generate_batch(loaded, [ids], settings=settings)
    at_once = max(context // 2, 1)
    if settings.strategy in _BY_THEIR_BEGINNING:
        raise ConfigError(
            f"{settings.strategy} goes by the beginning of the text, which a window forgets. Lower "
            "max_new_tokens or shorten the prompt until it fits, or take another strategy."
        )
    if most <= at_once:
        return generate_batch(loaded, [ids[-(context - most + 1) :]], settings=settings)
    if settings.row.beams or settings.num_drawn > 1 or settings.row.pick != "all":
        raise ConfigError(
            f"max_new_tokens is {most:,}, and {settings.strategy} with {settings.num_drawn} texts "
            f"can't slide a window over so long a text. Set max_new_tokens to {at_once:,} or less."
        )
    written: list[int] = []
    began = time.monotonic()
    while len(written) < most:
        length = min(at_once, most - len(written))
        memory = [*ids, *written][-(context - length + 1) :]
        values = _still_to_come(settings, num_written=len(written), length=length)
        if settings.is_on("max_time"):
            values["max_time"] = max(settings["max_time"] - (time.monotonic() - began), 1e-3)
        (row,) = generate_batch(loaded, [memory], settings=settings.changed(**values))
        written += row
        if len(row) < length or any(i in loaded.special.eos for i in row):
            break
    return [written]


def _still_to_come(settings: Settings, *, num_written: int, length: int) -> dict[str, Any]:
    """Settings that count tokens from the beginning of a text, for the next `length` of them."""
    least = settings["min_new_tokens"] - num_written
    values = {"max_new_tokens": length, "min_new_tokens": max(min(least, length), 0)}
    if decay := settings["exponential_decay_length_penalty"]:
        values["exponential_decay_length_penalty"] = [decay[0] - num_written, decay[1]]
    if num_written:
        values["begin_suppress_tokens"] = []
    if num_written + length < settings["max_new_tokens"]:
        values["forced_eos_token_id"] = []
    return values
