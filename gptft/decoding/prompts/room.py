"""Prompts and the room there is -> what of a long one is seen, or said of one that is too long."""

from collections.abc import Iterable, Sequence

from gptft.terminal.text import quoted
from gptft.terminal.words import count


def last_of(ids: Sequence[int], *, room: int, kept: int) -> list[int]:
    """What of a long text the model is given: its first `kept` ids, BOS, and the end of the rest.

    Args:
        ids: of a text.
        room: the most ids to give, >= 1.
        kept: ids at the beginning that stay, where one fits beside them.

    >>> last_of([1, 5, 6, 7, 8], room=3, kept=1), last_of([1, 5, 6], room=3, kept=1)
    ([1, 7, 8], [1, 5, 6])
    """
    if len(ids) <= room:
        return list(ids)
    kept = min(kept, room - 1)
    return [*ids[:kept], *ids[len(ids) - room + kept :]]


def too_long(
    prompts: Iterable[tuple[str, int]],
    *,
    max_new_tokens: int,
    context: int | None,
    window: Sequence[str] = ("let --window forget its beginning",),
) -> list[str]:
    """What would run beyond the last position; the last new token needs none.

    Args:
        prompts: each with its tokens.
        max_new_tokens: tokens to come after each.
        context: the most tokens the model can see at once; None where there is no limit.
        window: how to have it all the same, where that is possible.

    Returns:
        a message for each prompt that is too long.
    """
    problems = []
    for prompt, length in prompts:
        if context is None or length + max_new_tokens - 1 <= context:
            continue
        room = context - length + 1
        fewer = [f"set max_new_tokens to {room:,} or less"] if room > 0 else []
        *first, last = list[str]([*fewer, "shorten the prompt", *window])
        way_out = f"{', '.join(first)}, or {last}" if first else last
        problems.append(
            f"The prompt {quoted(prompt, at_most=30)} has {count(length, 'token')}, and with "
            f"max_new_tokens {max_new_tokens:,} it doesn't fit the model's context of "
            f"{context:,}. {way_out[0].upper()}{way_out[1:]}."
        )
    return problems
