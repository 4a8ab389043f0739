"""Lookahead decoding, a loop for `generate`: greedy search's ids in fewer calls of the model."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice

import torch
from torch import Tensor

from gptft.decoding.cached_model import CachedModel
from gptft.decoding.loops.generation_loop import LoopInputs, Sequences, generation_loop
from gptft.errors import ConfigError, ModelError


@generation_loop
def lookahead_decoding(
    inputs: LoopInputs, *, lookahead_window: int, lookahead_ngram_size: int, lookahead_guesses: int
) -> Tensor:
    """Continue one prompt as greedy search does, several tokens a call where guesses come true.

    Each call reads a row of tokens guessed by Jacobi iteration, and beside it rows of tokens that
    followed the last token before: in the text, or along the guesses of the latest calls. All of
    them are drafts; the processors are called once a token, in order, as in greedy search.

    Args:
        inputs: of one prompt; what `generate` hands to a loop.
        lookahead_window: tokens guessed by Jacobi iteration, >= 1.
        lookahead_ngram_size: tokens of a run that is kept, its first one included, >= 2.
        lookahead_guesses: runs tried at once, >= 1.

    Returns:
        Ids of shape (1, T + new tokens).

    Raises:
        ConfigError: more than one row.
        ModelError: the model's cache can't be cut back.

    Source: Fu et al. 2024 (2402.02057), section 3; guesses see each other in one row, not along the
    paper's two-dimensional window.
    """
    if (num_rows := len(inputs.input_ids)) != 1:
        raise ConfigError(f"Lookahead decoding continues one prompt once, not {num_rows} rows.")
    texts = Sequences(inputs)
    cached, output = inputs.read_prompts()
    if cached.cache is None or not cached.cache.is_croppable:
        raise ModelError(
            f"{type(cached.model).__name__} can't take back what it read, so guesses can't be "
            "tried. Take greedy: its text is the same."
        )
    cached.cache.activate_past_recording()  # keeps what a window drops, until drafts are read
    sizes = (lookahead_window, lookahead_ngram_size, lookahead_guesses)
    guesses = _Guesses(texts.ids[0].tolist(), *sizes)
    drafts: list[list[int]] = [[]]
    logits = output.logits[:, -1:]  # (drafts, 1 + longest draft, V)
    while True:
        row, new, done = _verify(inputs, texts, drafts, logits)
        if done:
            return texts.ids
        cached.select_rows(torch.tensor([row], device=texts.ids.device))
        cached.crop(logits.shape[1] - len(new))
        guesses.add_text(new)
        num_wanted = inputs.config.max_length - texts.ids.shape[1]
        # Before the last token there must be room for a draft, and a position.
        longest = max(int(min(num_wanted, cached.positions_left)) - 1, 0)
        drafts = guesses.drafts(longest=longest)
        logits = _read_drafts(cached, new[-1], drafts)
        next_tokens = logits[0, : len(drafts[0]) + 1].argmax(dim=-1).tolist()
        guesses.add_guess(drafts[0], next_tokens)


class _Guesses:
    """What may follow a text: guesses of each place, and runs that followed its tokens before."""

    def __init__(self, text: list[int], window: int, ngram_size: int, most: int) -> None:
        self._text, self._window, self._ngram_size, self._most = text, window, ngram_size, most
        self._guess: list[int] = []  # of the places behind the text
        # What was read in the latest calls, by place in the text.
        self._trail: deque[dict[int, int]] = deque(maxlen=ngram_size - 1)
        # The runs behind a first token, the latest last; a dict for its order and no doubles.
        self._pool: dict[int, dict[tuple[int, ...], None]] = {}
        self._remember(_runs(text, ngram_size))

    def add_text(self, new: list[int]) -> None:
        """Take account of new tokens; the first guess was for the place of the first of them."""
        self._remember(_runs([*self._text[1 - self._ngram_size :], *new], self._ngram_size))
        self._text += new
        kept = self._guess[len(new) :][: self._window]
        filling = islice(cycle(self._text[-self._window :]), self._window - len(kept))
        self._guess = [*kept, *filling]

    def drafts(self, *, longest: int) -> list[list[int]]:
        """What to try, each at most `longest` tokens: the guess first, then runs of the pool."""
        runs = reversed(self._pool.get(self._text[-1], {}))
        cut = dict.fromkeys(run[:longest] for run in runs if longest)
        return [self._guess[:longest], *(list(run) for run in cut)]

    def add_guess(self, read: Sequence[int], next_tokens: list[int]) -> None:
        """Take account of a guess that was read, and of the model's next token at each place."""
        self._guess = next_tokens
        place = len(self._text)
        self._trail.append(dict(enumerate([self._text[-1], *read], start=place - 1)))
        self._remember(_diagonals(self._trail, next_tokens, start=place))

    def _remember(self, runs: Iterable[tuple[int, ...]]) -> None:
        """Put runs into the pool, which keeps the latest that begin with the same token."""
        for first, *rest in runs:
            group = self._pool.setdefault(first, {})
            group.pop(tuple(rest), None)
            group[tuple(rest)] = None
            while len(group) > self._most:
                del group[next(iter(group))]


def _read_drafts(cached: CachedModel, last: int, drafts: Sequence[Sequence[int]]) -> Tensor:
    """Read the last token and each draft behind it: logits of shape (drafts, 1 + longest, V)."""
    longest = max(map(len, drafts))
    # What fills a row up stands behind its tokens, which don't see it.
    rows = [[last, *draft, *[last] * (longest - len(draft))] for draft in drafts]
    device = cached.model.device
    cached.select_rows(torch.zeros(len(rows), dtype=torch.long, device=device))
    logits: Tensor = cached.feed(torch.tensor(rows, device=device)).logits
    return logits


def _verify(
    inputs: LoopInputs, texts: Sequences, drafts: Sequence[Sequence[int]], logits: Tensor
) -> tuple[int, list[int], bool]:
    """Continue a text greedily for as long as a draft agrees.

    Args:
        inputs: of the loop.
        texts: the one text, shape (1, T).
        drafts: what each row guesses to come next.
        logits: shape (rows, 1 + longest draft, V).

    Returns:
        a row that held all new tokens but the last; the new tokens, one at least; whether the text
        is finished.
    """
    new: list[int] = []
    rows = list(range(len(drafts)))
    while True:
        place = logits[rows[0], len(new)][None].float()  # (1, V)
        scores = inputs.logits_processor(texts.ids, place)
        token = scores.argmax(dim=-1)  # (1,)
        new.append(int(token))
        done = texts.append(token, scores)
        agreeing = [row for row in rows if list(drafts[row][: len(new)]) == new]
        if done or not agreeing:
            return rows[0], new, done
        rows = agreeing


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
