"""A text longer than the model's context, generated through a window that slides.

What has left the window the model doesn't see any more.
"""

import time
from collections.abc import Sequence
from typing import Any

from gptft.decoding.batch import generate_batch
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.prompts.room import last_of
from gptft.decoding.settings import Settings
from gptft.errors import ConfigError
from gptft.models.load import context_of
from gptft.terminal.words import count


def generate_windows(
    loaded: LoadedModel, ids: Sequence[int], *, settings: Settings, head: int = 0
) -> list[list[int]]:
    """Continue the end of the text so far, as often as it takes.

    Each time up to half the context is generated, so that the model sees at least about half a
    context before it; what the tokenizer puts before a text, BOS, stays in front, and so does what
    a chat template puts before a prompt. Any strategy will do for a text that needs one window.

    Args:
        loaded: the model, one with a limit.
        ids: the whole prompt.
        settings: see `resolve_settings`.
        head: ids at the beginning that stay.

    Raises:
        ConfigError: a strategy that depends on the beginning, or one that has to see all of the
            text and more than one window; a beginning that fills the window.
    """
    context = context_of(loaded.model)
    most = settings["max_new_tokens"]
    if context is None:
        return generate_batch(loaded, [ids], settings=settings)
    at_once, kept = max(context // 2, 1), max(head, loaded.special.num_before(ids))
    room = context - min(most, at_once) + 1
    if head >= room:
        raise ConfigError(
            f"The chat template's beginning, {count(head, 'token')}, has to stay in the window, in "
            f"which there is room for {room:,} beside the new ones. Lower max_new_tokens, or take "
            "a model with a longer context."
        )
    if settings.row.by_beginning:
        raise ConfigError(
            f"{settings.strategy} depends on the beginning of the text, which leaves the window. "
            "Lower max_new_tokens or shorten the prompt until it fits, or take another strategy."
        )
    if most <= at_once:
        visible = last_of(ids, room=context - most + 1, kept=kept)
        return generate_batch(loaded, [visible], settings=settings)
    if settings.num_drawn > 1:
        raise ConfigError(
            f"max_new_tokens is {most:,}, and {settings.strategy} with {settings.num_drawn} texts "
            f"can't slide a window over so long a text. Set max_new_tokens to {at_once:,} or less."
        )
    new_ids: list[int] = []
    began = time.monotonic()
    while len(new_ids) < most:
        length = min(at_once, most - len(new_ids))
        visible = last_of([*ids, *new_ids], room=context - length + 1, kept=kept)
        values = _settings_of_window(settings, num_done=len(new_ids), length=length)
        if settings.is_on("max_time"):
            left = settings["max_time"] - (time.monotonic() - began)
            values["max_time"] = max(left, 1e-3)  # 0 or less isn't taken
        (row,) = generate_batch(loaded, [visible], settings=settings.changed(**values))
        new_ids += row
        if len(row) < length or any(i in loaded.special.eos for i in row):
            break
    return [new_ids]


def _settings_of_window(settings: Settings, *, num_done: int, length: int) -> dict[str, Any]:
    """Settings that count tokens from the beginning of a text, for the next `length` of them."""
    least = settings["min_new_tokens"] - num_done
    values = {"max_new_tokens": length, "min_new_tokens": max(min(least, length), 0)}
    if decay := settings["exponential_decay_length_penalty"]:
        values["exponential_decay_length_penalty"] = [decay[0] - num_done, decay[1]]
    if num_done:
        values["begin_suppress_tokens"] = []
    if num_done + length < settings["max_new_tokens"]:
        values["forced_eos_token_id"] = []
    return values
