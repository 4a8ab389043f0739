"""Lookahead decoding: greedy text in fewer calls of the model, without another model.

In: a causal model, one prompt as `generate` prepares it, how far to guess. Out: the ids that greedy
search gives. A loop for `model.generate(custom_generate=...)`; draws nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from gptft.decoding.loops.rows import Reader, TokenStreamer, read_prompt, streaming, with_tokens
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of

# What came after a token, the latest last: first token -> the tokens behind it -> nothing.
_Pool = dict[int, dict[tuple[int, ...], None]]


def lookahead_decoding(
    model: PreTrainedModel,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    lookahead_window: int,
    lookahead_ngram_size: int,
    lookahead_guesses: int,
    token_streamer: TokenStreamer | None = None,
    **prepared: Any,
) -> torch.Tensor:
    """Continue one prompt as greedy search does, several tokens a call where guesses come true.

    Each call reads a row of tokens guessed by Jacobi iteration, and beside it rows of tokens that
    followed the last token before: in the text, or along the guesses of the latest calls. All of
    them are drafts; the processors are asked once a token, in order, as greedy search asks them.

    Args:
        model: a causal one whose cache can be cut back.
        input_ids: shape (1, T).
        logits_processor: applied to the logits of each token.
        stopping_criteria: say when the row is done.
        generation_config: its max_length ends the guessing.
        lookahead_window: tokens guessed by Jacobi iteration, >= 1.
        lookahead_ngram_size: tokens of a run that is kept, its first one included, >= 2.
        lookahead_guesses: runs tried at once, >= 1.
        token_streamer: given the prompt, then each token.
        prepared: what `generate` prepares for the model; see `loop.read_prompt`.

    Returns:
        Ids of shape (1, T + new tokens).

    Raises:
        ConfigError: more than one row, or a size that is too small.
        ModelError: the model's cache can't be cut back.

    Source: Fu et al. 2024 (2402.02057), section 3; guesses see each other in one row, not along the
    paper's two-dimensional window.
    """
    _check(
        len(input_ids),
        window=lookahead_window,
        ngram_size=lookahead_ngram_size,
        guesses=lookahead_guesses,
    )
    pool: _Pool = {}
    trail: deque[dict[int, int]] = deque(maxlen=lookahead_ngram_size - 1)
    guess: list[int] = []
    drafts: list[list[int]] = [[]]
    with streaming(token_streamer, input_ids) as tell:
        reader, output = read_prompt(model, input_ids, prepared)
        _make_croppable(reader)
        logits = output.logits[:, -1:]
        text: list[int] = input_ids[0].tolist()
        _remember(pool, _runs(text, lookahead_ngram_size), most=lookahead_guesses)
        while True:
            input_ids, row, done = _verify(
                input_ids, drafts, logits, logits_processor, stopping_criteria, tell
            )
            if done:
                return input_ids
            new = input_ids[0, len(text) :].tolist()
            _settle(reader, row=row, num_back=logits.shape[1] - len(new))
            runs = _runs([*text[1 - lookahead_ngram_size :], *new], lookahead_ngram_size)
            _remember(pool, runs, most=lookahead_guesses)
            text += new
            guess = _shifted(guess, len(new), text=text, window=lookahead_window)
            longest = _room(reader, generation_config.max_length - len(text))
            drafts = _drafts(guess, pool.get(text[-1], {}), longest=longest)
            logits = _read_drafts(reader, text[-1], drafts)
            guess = logits[0, : len(drafts[0]) + 1].argmax(dim=-1).tolist()
            trail.append(dict(enumerate([text[-1], *drafts[0]], start=len(text) - 1)))
            runs = _diagonals(trail, guess, start=len(text))
            _remember(pool, runs, most=lookahead_guesses)


def _check(num_rows: int, *, window: int, ngram_size: int, guesses: int) -> None:
    sizes = (
        ("lookahead_window", window, 1),
        ("lookahead_ngram_size", ngram_size, 2),
        ("lookahead_guesses", guesses, 1),
    )
    problems = [f"{name} must be at least {low}, not {n}." for name, n, low in sizes if n < low]
    if num_rows != 1:
        problems.append(f"Lookahead decoding continues one prompt once, not {num_rows} rows.")
    if problems:
        raise ConfigError(*problems)


def _make_croppable(reader: Reader) -> None:
    """Have the cache keep what a window would drop, until drafts are settled."""
    if not reader.cache.is_croppable:
        raise ModelError(
            f"{type(reader.model).__name__} can't take back what it read, so guesses can't be "
            "tried. Take greedy: its text is the same."
        )
    reader.cache.activate_past_recording()


def _room(reader: Reader, num_wanted: int) -> int:
    """How long a draft may be: no longer than the text still gets, nor than there are positions."""
    context = context_of(reader.model)
    if context is not None and reader.position_ids is not None:
        num_wanted = min(num_wanted, context - 1 - int(reader.position_ids.max()))
    return max(num_wanted - 1, 0)


def _shifted(guess: Sequence[int], num_new: int, *, text: Sequence[int], window: int) -> list[int]:
    """The guesses behind the new tokens, filled up to `window` with the latest of the text.

    The first guess was for the place of the first new token.
    """
    kept = list(guess[num_new:][:window])
    return [*kept, *islice(cycle(text[-window:]), window - len(kept))]


def _drafts(
    guess: Sequence[int], followed: dict[tuple[int, ...], None], *, longest: int
) -> list[list[int]]:
    """The rows to try, each at most `longest` tokens: the guess first, then what is in the pool."""
    cut = dict.fromkeys(run[:longest] for run in reversed(followed) if longest)
    return [list(guess[:longest]), *(list(run) for run in cut)]


def _read_drafts(reader: Reader, last: int, drafts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Read the last token and each draft behind it: logits of shape (drafts, 1 + longest, V)."""
    longest = max(map(len, drafts))
    # What fills a row up stands behind its tokens, which don't see it.
    rows = [[last, *draft, *[last] * (longest - len(draft))] for draft in drafts]
    reader.choose(torch.zeros(len(rows), dtype=torch.long, device=reader.model.device))
    logits: torch.Tensor = reader.read(torch.tensor(rows, device=reader.model.device)).logits
    return logits


def _verify(
    input_ids: torch.LongTensor,
    drafts: Sequence[Sequence[int]],
    logits: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    tell: Callable[[torch.Tensor], None],
) -> tuple[torch.LongTensor, int, bool]:
    """Write greedily as far as any draft goes along.

    Args:
        input_ids: the text, shape (1, T).
        drafts: what each row guesses to come next.
        logits: shape (rows, 1 + longest draft, V).
        logits_processor: applied at each place to the text up to it.
        stopping_criteria: asked after each token.
        tell: called with each token, shape (1,).

    Returns:
        the text with one new token at least; a row that held all of them but the last; whether the
        text is done.
    """
    new: list[int] = []
    rows = list(range(len(drafts)))
    while True:
        scores = logits_processor(input_ids, logits[rows[0], len(new)][None].float())
        token = scores.argmax(dim=-1)
        input_ids = with_tokens(input_ids, token)
        tell(token)
        new.append(int(token))
        along = [row for row in rows if list(drafts[row][: len(new)]) == new]
        done = bool(stopping_criteria(input_ids, scores).all())
        if done or not along:
            return input_ids, rows[0], done
        rows = along


def _settle(reader: Reader, *, row: int, num_back: int) -> None:
    """Keep one row of what was read, without its last `num_back` tokens."""
    reader.choose(torch.tensor([row], device=reader.model.device))
    reader.cache.crop(-num_back)
    if reader.attention_mask is not None:
        length = reader.attention_mask.shape[1] - num_back
        reader.attention_mask = reader.attention_mask[:, :length]
    if reader.position_ids is not None:
        reader.position_ids = reader.position_ids - num_back


def _runs(text: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """All runs of `size` tokens.

    >>> list(_runs([1, 2, 3, 4], 3))
    [(1, 2, 3), (2, 3, 4)]
    """
    return (tuple(text[i : i + size]) for i in range(len(text) - size + 1))


def _diagonals(
    trail: Sequence[dict[int, int]], guess: Sequence[int], *, start: int
) -> Iterator[tuple[int, ...]]:
    """Runs along the guesses: at each place the guess of one call later than the place before.

    Each of their tokens was guessed by a model that had just read the one before it.

    Args:
        trail: of each of the latest calls the tokens it read, by their place in the text.
        guess: what the last of them made of these, from place `start` on.
        start: a place.

    >>> list(_diagonals([{4: 40, 5: 50}, {5: 51, 6: 61}], [62, 72], start=6))
    [(40, 51, 62), (50, 61, 72)]
    """
    for place, token in enumerate(guess, start=start):
        first = place - len(trail)
        before = [read.get(place) for place, read in enumerate(trail, start=first)]
        run = [token for token in before if token is not None]
        if len(run) == len(trail):
            yield (*run, token)


def _remember(pool: _Pool, runs: Iterable[tuple[int, ...]], *, most: int) -> None:
    """Put runs into the pool, which keeps the `most` latest that begin with the same token."""
    for first, *rest in runs:
        group = pool.setdefault(first, {})
        group.pop(tuple(rest), None)
        group[tuple(rest)] = None
        while len(group) > most:
            del group[next(iter(group))]
