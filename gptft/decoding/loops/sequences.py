"""A batch of texts as a loop writes it: tokens of a step -> ids, and whether all are finished."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import LongTensor, Tensor
from transformers import GenerationConfig, StoppingCriteriaList


class TokenStreamer(Protocol):
    """Takes ids as transformers feeds them to a streamer."""

    def put(self, value: Tensor) -> None:
        """Take the ids of the prompts, shape (B, T), at first, then those of a step, shape (B,)."""

    def end(self) -> None:
        """No more will come."""


@dataclass
class Sequences:
    """A batch of texts that grows by one token a step; a finished text grows by padding.

    Attributes:
        input_ids: shape (B, T), prompts included.
        finished: which texts are finished, shape (B,).
        stopping_criteria: say so.
        pad_id: what finished texts grow by.
        streamer: given the tokens of each step.
    """

    input_ids: LongTensor
    finished: Tensor
    stopping_criteria: StoppingCriteriaList
    pad_id: int
    streamer: TokenStreamer | None

    def append(self, tokens: Tensor, scores: Tensor) -> bool:
        """Append tokens (B,), chosen by scores (B, V); whether all texts are finished."""
        tokens = tokens.masked_fill(self.finished, self.pad_id)
        self.input_ids = cast(LongTensor, torch.cat([self.input_ids, tokens[:, None]], dim=1))
        if self.streamer is not None:
            self.streamer.put(tokens.cpu())
        self.finished = self.finished | self.stopping_criteria(
            self.input_ids, cast(torch.FloatTensor, scores)
        )
        return bool(self.finished.all())


@contextmanager
def growing_sequences(
    input_ids: LongTensor,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: TokenStreamer | None,
) -> Iterator[Sequences]:
    """The texts of a loop, from prompts of shape (B, T).

    Whatever happens, the streamer is told of the end: who reads from it would wait forever.
    """
    pad, eos = generation_config.pad_token_id, generation_config.eos_token_id
    if pad is None:
        pad = eos[0] if isinstance(eos, list) else eos or 0
    finished = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    try:
        if streamer is not None:
            streamer.put(input_ids.cpu())
        yield Sequences(input_ids, finished, stopping_criteria, int(pad), streamer)
    finally:
        if streamer is not None:
            streamer.end()
