"""A model and token ids -> log-probabilities, by teacher forcing: nothing is drawn.

In: a model in eval mode and rows of ids. Out: float32 logits in chunks, so that memory doesn't grow
with the length of a text; sums a row.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.models.load import context_of

_LOGITS_AT_ONCE = 2**24  # numbers held in one chunk: 64 MiB as float32


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    *,
    starts: Sequence[int],
    batch_size: int = 16,
) -> list[float]:
    """The log-probability of the end of each row, given its beginning.

    Rows are padded on the right, masked, so that each sum is what its row alone would give, but
    for rounding. Long rows go through the window of `score_tokens`.

    Args:
        model: a causal one, in eval mode.
        rows: token ids; lengths may differ.
        starts: by row, the first token that counts, >= 1; one past the last for none of them: 0.0.
        batch_size: rows at once, of similar length.

    Returns:
        sums of natural logarithms, in the order of the rows.

    Raises:
        ModelError: the model's logits are no numbers.
    """
    for row, start in zip(rows, starts, strict=True):
        check_start(row, start)
    sums = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in range(0, len(order), batch_size):
        batch = [i for i in order[at : at + batch_size] if len(rows[i]) > starts[i]]
        if not batch:
            continue
        ends = torch.tensor([len(rows[i]) for i in batch], device=model.device)
        begins = torch.tensor([starts[i] for i in batch], device=model.device)
        longest = max(len(rows[i]) for i in batch)
        ids = torch.tensor(
            [[*rows[i], *[0] * (longest - len(rows[i]))] for i in batch], device=model.device
        )
        places = torch.arange(longest, device=model.device)
        mask = (places < ends[:, None]).long()
        counted = (places >= begins[:, None]) & (places < ends[:, None])
        total = torch.zeros(len(batch), dtype=torch.float64)  # not every device has float64
        first_needed = min(starts[i] for i in batch) - 1
        for first, logits in chunked_logits(
            model, ids[:, :-1], mask, first=first_needed, counted=counted
        ):
            here = slice(first + 1, first + 1 + logits.shape[1])
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, here, None])[..., 0]
            # Not a product: what isn't counted may be infinite.
            total += logprobs.masked_fill(~counted[:, here], 0.0).cpu().double().sum(-1)
        for i, value in zip(batch, total.tolist(), strict=True):
            sums[i] = value
    return sums


def check_logits(logits: torch.Tensor) -> None:
    """Refuse logits that are no numbers.

    Raises:
        ModelError: one of them isn't.
    """
    if torch.isnan(logits).any():
        raise ModelError(
            "The model's logits are not numbers. Its training went astray, or its dtype is too "
            "narrow: try --dtype float32."
        )


def check_start(ids: Sequence[int], start: int) -> None:
    """Refuse a first token that has none before it to be scored by.

    Raises:
        ValueError: it has none; a caller's mistake.
    """
    if not 1 <= start <= len(ids):
        raise ValueError(f"start is {start}, and of {len(ids)} tokens 1 to {len(ids)} can be it")


def _windows(num_inputs: int, *, context: int | None, first: int) -> Iterator[tuple[int, int, int]]:
    """Spans of inputs to read at once: begin, end, and the first one not yet read or not needed.

    >>> list(_windows(10, context=4, first=0))
    [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    >>> list(_windows(10, context=4, first=7))
    [(4, 8, 7), (6, 10, 8)]
    """
    if context is None or num_inputs <= context:
        yield 0, num_inputs, first
        return
    stride = max(context // 2, 1)
    begin, read = 0, 0
    while read < num_inputs:
        end = min(begin + context, num_inputs)
        if end > first:
            yield begin, end, max(read, first)
        begin, read = begin + stride, end


def chunked_logits(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    mask: torch.Tensor,
    *,
    first: int,
    counted: torch.Tensor | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits after each input from `first` on, in order, in chunks.

    Args:
        model: a causal one.
        inputs: shape (B, T), padded on the right.
        mask: shape (B, at least T), 1 where there is a token.
        first: the first input whose logits are needed.
        counted: shape (B, T + 1), which tokens' scores matter; all of them if not given.

    Yields:
        the number of an input, and float32 logits of shape (B, t, V) from that input on.
    """
    num_rows, num_inputs = inputs.shape
    vocab = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    at_once = max(_LOGITS_AT_ONCE // (vocab * num_rows), 1)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    for begin, end, new in _windows(num_inputs, context=context_of(model), first=first):
        cache = None
        for at in range(begin, end, at_once):
            stop = min(at + at_once, end)
            given: dict[str, Any] = {"use_cache": cache is not None or stop < end}
            if cache is not None:
                given["past_key_values"] = cache
            if takes_positions:
                places = torch.arange(at - begin, stop - begin, device=inputs.device)
                given["position_ids"] = places.expand(num_rows, -1)
            output = model(
                input_ids=inputs[:, at:stop], attention_mask=mask[:, begin:stop], **given
            )
            cache = output.past_key_values if stop < end else None
            if stop <= new:
                continue
            logits = output.logits[:, max(new - at, 0) :].float()
            del output
            from_here = max(new, at)
            if counted is None:
                check_logits(logits)
            else:
                check_logits(logits[counted[:, from_here + 1 : stop + 1]])
            yield from_here, logits


def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Log-softmax over the last dimension; minus infinity all over where no token is left."""
    return scores.float().log_softmax(-1).nan_to_num(nan=-math.inf, neginf=-math.inf)
