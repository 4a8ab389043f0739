"""A prompt, what a model goes on with, and the text it was trained on -> what they share."""

from collections.abc import Sequence
from itertools import groupby

from gptft.analysis.explain.explanation import Passage, TrainingMatch
from gptft.analysis.ngram_search import Copied
from gptft.analysis.training_text import EncodedText, TrainingText, WrittenText

_CONTEXT = 24  # tokens of the training text before and after what is shared
_SHORTEST_COPY = 4  # tokens of a span that is called copied
_MOST_PASSAGES = 3


def match_training_text(training: TrainingText, prompt: str, continuation: str) -> TrainingMatch:
    """What the training text has of a prompt and of how the model goes on with it.

    Args:
        training: the text, as tokens.
        prompt: what was given.
        continuation: what the model goes on with.
    """
    written = training.encode(WrittenText(prompt, continuation))
    own = training.encode(WrittenText("", prompt)).ids
    longest = training.copies([written.ids])[0].longest if written.ids else 0
    passages, why_no_files = _passages(training, own)
    return TrainingMatch(
        passages=passages,
        continuation=continuation,
        spans=_spans(training, written),
        longest=longest,
        num_training_tokens=training.num_tokens,
        why_no_files=why_no_files,
    )


def _passages(training: TrainingText, ids: Sequence[int]) -> tuple[tuple[Passage, ...], str | None]:
    """The places that have the longest piece of the prompt, and then most of its end.

    Returns:
        the places; and why some have no file, in a sentence, where that is so.
    """
    if not ids:
        return (), None
    ends = [ids[start:] for start in range(len(ids))]
    whole, *rest = training.copies(ends)
    whole_ends = [one for end, one in zip(ends[1:], rest, strict=True) if one.longest == len(end)]
    chosen: list[Copied] = []
    seen: list[range] = []
    for copied in (whole, *whole_ends):
        place = copied.place_in_stream
        if place is None or any(place in one for one in seen):
            continue
        seen.append(range(place, place + copied.longest + _CONTEXT))
        chosen.append(copied)
        if len(chosen) == _MOST_PASSAGES:
            break
    places, why_no_files = training.places(chosen)
    passages = (
        Passage(*training.around(place, copied.longest, context=_CONTEXT), copied.longest, found)
        for copied, found in zip(chosen, places, strict=True)
        if (place := copied.place_in_stream) is not None and found is not None
    )
    return tuple(passages), why_no_files


def _spans(training: TrainingText, written: EncodedText) -> tuple[tuple[str, bool], ...]:
    """The continuation, cut where copied stretches begin and end."""
    ids = written.ids
    is_copied = [False] * len(ids)
    starts = range(max(len(ids) - _SHORTEST_COPY + 1, 0))
    windows = [ids[start : start + _SHORTEST_COPY] for start in starts]
    for start, copied in zip(starts, training.copies(windows) if windows else [], strict=True):
        if copied.longest == _SHORTEST_COPY:
            is_copied[start : start + _SHORTEST_COPY] = [True] * _SHORTEST_COPY
    runs = [
        (copied, [*places]) for copied, places in groupby(range(len(ids)), is_copied.__getitem__)
    ]
    return tuple((written.quote(places[0], len(places)), copied) for copied, places in runs)
