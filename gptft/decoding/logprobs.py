"""A model and sequences of token ids -> log-probabilities, by teacher forcing: nothing is drawn."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gptft.decoding.cached_model import CachedModel
from gptft.decoding.special_tokens import num_embeddings
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of

NO_TOKEN_LEFT = (
    "The settings leave no token to write. Look at bad_words, suppress_tokens, allowed_words and "
    "the like."
)
LOGITS_AT_ONCE = 2**24  # numbers held in one chunk: 64 MiB as float32


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    *,
    starts: Sequence[int],
    kept: int = 0,
    batch_size: int = 16,
) -> list[float]:
    """The log-probability of the end of each sequence, given its beginning.

    Sequences are padded on the right, masked, so that each sum is what its sequence alone would
    give, but for rounding. Long ones go through the window of `score_tokens`.

    Args:
        model: a causal one, in eval mode.
        sequences: token ids; lengths may differ.
        starts: by sequence, the first token that counts, >= 1; one past the last for none of them:
            0.0.
        kept: as `chunked_logits` takes it.
        batch_size: sequences at once, of similar length.

    Returns:
        sums of natural logarithms, in the order of the sequences.

    Raises:
        ModelError: the model's logits are not numbers.
    """
    for ids, start in zip(sequences, starts, strict=True):
        check_start(ids, start)
    sums = [0.0] * len(sequences)
    counted = (i for i in range(len(sequences)) if len(sequences[i]) > starts[i])
    order = sorted(counted, key=lambda i: len(sequences[i]))
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        texts, begins = [sequences[i] for i in batch], [starts[i] for i in batch]
        totals = _batch_logprobs(model, texts, starts=begins, kept=kept)
        for i, total in zip(batch, totals, strict=True):
            sums[i] = total
    return sums


def _batch_logprobs(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], *, starts: Sequence[int], kept: int
) -> list[float]:
    """`sequence_logprobs` of sequences that go through the model together."""
    device = model.device
    ends = torch.tensor([[len(ids)] for ids in sequences], device=device)  # (B, 1)
    begins = torch.tensor([[start] for start in starts], device=device)
    ids = pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True).to(device)
    places = torch.arange(ids.shape[1], device=device)  # (T,)
    counted = (places >= begins) & (places < ends)  # (B, T)
    total = torch.zeros(len(sequences), dtype=torch.float64)  # not every device has float64
    for first, logits in chunked_logits(
        model, ids[:, :-1], (places < ends).long(), first=min(starts) - 1, kept=kept,
        counted=counted,
    ):  # fmt: skip
        here = slice(first + 1, first + 1 + logits.shape[1])
        logprobs = logits.log_softmax(-1).gather(-1, ids[:, here, None])[..., 0]  # (B, t)
        # Not a product: what isn't counted may be infinite.
        total += logprobs.masked_fill(~counted[:, here], 0.0).cpu().double().sum(-1)
    return total.tolist()


def check_logits(logits: torch.Tensor) -> None:
    """Refuse logits that are not numbers.

    Raises:
        ModelError: one of them isn't.
    """
    if torch.isnan(logits).any():
        raise ModelError(
            "The model's logits are not numbers. Its training diverged, or its dtype is too "
            "narrow: try --dtype float32."
        )


def check_some_left(stuck: torch.Tensor, *, finished: torch.Tensor) -> None:
    """Refuse texts without a possible next token, shape (B,), but for finished ones, (B,).

    Raises:
        ConfigError: there is one.
    """
    if bool((stuck & ~finished).any()):
        raise ConfigError(NO_TOKEN_LEFT)


def check_start(ids: Sequence[int], start: int) -> None:
    """Refuse a first token that has none before it to be scored by.

    Raises:
        ValueError: it has none; a caller's mistake.
    """
    if not 1 <= start <= len(ids):
        raise ValueError(f"start is {start}, and of {len(ids)} tokens 1 to {len(ids)} can be it")


@dataclass(frozen=True)
class Window:
    """How a text longer than a model's context is read.

    Attributes:
        size: tokens that are read at once.
        stride: tokens by which it moves on, at most `size`: all but the first `size` tokens see at
            least `size` - `stride` before them.
    """

    size: int
    stride: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Window | None":
        """The model's context, moved by half of it; None where the context has no limit."""
        context = context_of(model)
        return None if context is None else cls(context, max(context // 2, 1))


def _windows(
    num_inputs: int, *, window: Window | None, first: int
) -> Iterator[tuple[int, int, int]]:
    """Spans of inputs to read at once: begin, end, and the first one not yet read or not needed.

    >>> list(_windows(10, window=Window(4, 2), first=0))
    [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    >>> list(_windows(10, window=Window(4, 2), first=7))
    [(4, 8, 7), (6, 10, 8)]
    >>> list(_windows(10, window=Window(4, 3), first=0))
    [(0, 4, 0), (3, 7, 4), (6, 10, 7)]
    """
    if window is None or num_inputs <= window.size:
        yield 0, num_inputs, first
        return
    begin, read = 0, 0
    while read < num_inputs:
        end = min(begin + window.size, num_inputs)
        if end > first:
            yield begin, end, max(read, first)
        begin, read = begin + window.stride, end


def chunked_logits(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    mask: torch.Tensor,
    *,
    first: int,
    kept: int = 0,
    counted: torch.Tensor | None = None,
    window: Window | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits after each input from `first` on, in order, in chunks.

    Args:
        model: a causal one.
        inputs: shape (B, T), padded on the right.
        mask: shape (B, at least T), 1 where there is a token.
        first: the first input whose logits are needed.
        kept: inputs at the beginning, BOS, that stand in front of every window.
        counted: shape (B, T + 1), which tokens' scores matter; all of them if not given.
        window: what is read at once; `Window.of` the model if not given.

    Yields:
        the number of an input, and float32 logits of shape (B, t, V) from that input on.
    """
    num_rows, num_inputs = inputs.shape
    at_once = max(LOGITS_AT_ONCE // (num_embeddings(model) * num_rows), 1)
    window = window or Window.of(model)
    for begin, end, new in _windows(num_inputs, window=window, first=first):
        cached = CachedModel.of(model)
        seen = inputs
        if begin and kept:
            front = min(kept, new - begin)
            seen = inputs.clone()
            seen[:, begin : begin + front] = inputs[:, :front]
        for at in range(begin, end, at_once):
            stop = min(at + at_once, end)
            output = cached.feed(
                seen[:, at:stop], attention_mask=mask[:, at:stop], is_last=stop == end
            )
            if stop <= new:
                continue
            from_here = max(new, at)
            logits = output.logits[:, from_here - at :].float()  # (B, t, V)
            del output
            check_logits(
                logits if counted is None else logits[counted[:, from_here + 1 : stop + 1]]
            )
            yield from_here, logits


def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Log-softmax over the last dimension; minus infinity all over where no token is left."""
    return scores.float().log_softmax(-1).nan_to_num(nan=-math.inf, neginf=-math.inf)
