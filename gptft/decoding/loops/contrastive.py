"""Contrastive search, a loop for `generate`: of likely tokens the one least like the text."""

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers.generation.streamers import BaseStreamer

from gptft.decoding.cached_model import CachedModel
from gptft.decoding.loops.generation_loop import LoopInputs, generation_loop, growing_sequences
from gptft.errors import ModelError


@generation_loop
def contrastive_search(
    inputs: LoopInputs,
    *,
    top_k: int,
    penalty_alpha: float,
    token_streamer: BaseStreamer | None = None,
) -> Tensor:
    """Continue prompts; each step reads `top_k` candidates of each text at once.

    The score of a candidate is (1 - penalty_alpha) times its probability less penalty_alpha times
    the highest cosine between its hidden state and those of the text so far. A candidate that the
    processors forbid is never taken. A token behind the model's last position has no hidden state:
    there the likeliest is taken.

    Args:
        inputs: what `generate` hands to a loop.
        top_k: candidates a step, >= 1; 1 is greedy.
        penalty_alpha: weight of the similarity, 0 to 1; 0 is greedy.
        token_streamer: given the prompts, then the tokens of each step.

    Returns:
        Ids of shape (B, T + new tokens).

    Raises:
        ModelError: the model gives no hidden states.

    Source: Su et al. 2022 (2202.06417), section 3: contrastive search.
    """
    with growing_sequences(inputs, token_streamer) as texts:
        cached, output = inputs.read_prompts(output_hidden_states=True)
        logits = output.logits[:, -1].float()  # (B, V)
        num_candidates = min(top_k, logits.shape[1])
        reader = _CandidateReader(cached, output.hidden_states, num_candidates=num_candidates)
        while True:
            scores = inputs.logits_processor(texts.ids, logits)
            probabilities, candidates = scores.softmax(dim=-1).topk(num_candidates)  # (B, k)
            similarity = reader.similarity(candidates)
            values = (1 - penalty_alpha) * probabilities - penalty_alpha * similarity
            forbidden = scores.gather(1, candidates) == -torch.inf
            best = values.masked_fill(forbidden, -torch.inf).argmax(dim=1)  # (B,)
            if texts.append(candidates.gather(1, best[:, None])[:, 0], scores):
                return texts.ids
            logits = reader.keep(best)


class _CandidateReader:
    """A model that reads k candidates of each of B texts at once, in B * k rows."""

    def __init__(
        self, cached: CachedModel, hidden_states: tuple[Tensor, ...] | None, *, num_candidates: int
    ) -> None:
        """Begin behind the prompts, whose hidden states are given by layer, (B, T, C) each."""
        self._cached = cached
        self._history = self._directions(hidden_states)  # (B, T, C)
        mask = cached.attention_mask
        self._padding = None if mask is None else mask == 0  # (B, T)
        self._first = torch.arange(len(self._history), device=self._history.device) * num_candidates
        cached.select_rows((self._first // num_candidates).repeat_interleave(num_candidates))
        self._repeats = num_candidates
        self._room = cached.positions_left
        self._states = self._logits = self._history  # of the candidates, once some were read

    def similarity(self, candidates: Tensor) -> Tensor:
        """Read candidates (B, k): the highest cosine of each to the text so far, (B, k)."""
        beyond = self._hold_at_last_position()
        output = self._cached.feed(candidates.view(-1, 1), output_hidden_states=True)
        self._logits = output.logits[:, -1]  # (B * k, V)
        states = self._directions(output.hidden_states)  # (B * k, 1, C)
        self._states = states.view(*candidates.shape, -1)  # (B, k, C)
        cosines = self._states @ self._history.mT  # (B, k, T)
        if self._padding is not None:
            cosines = cosines.masked_fill(self._padding[:, None], -torch.inf)
        highest = cosines.amax(dim=-1)
        return highest if beyond is None else highest.masked_fill(beyond.view_as(highest), 0.0)

    def keep(self, best: Tensor) -> Tensor:
        """Continue each text with its candidate best (B,): the next token's logits, (B, V)."""
        chosen = self._first + best
        self._cached.select_rows(chosen.repeat_interleave(self._repeats))
        state = self._states[torch.arange(len(best), device=best.device), best]  # (B, C)
        self._history = torch.cat([self._history, state[:, None]], dim=1)
        if self._padding is not None:
            self._padding = torch.cat([self._padding, self._padding.new_zeros(len(best), 1)], dim=1)
        self._room -= 1
        # The chosen candidate has been read already: no token is read twice.
        return self._logits[chosen].float()

    def _directions(self, hidden_states: tuple[Tensor, ...] | None) -> Tensor:
        """The last layer's states (B, T, C), each of length 1, so that products are cosines."""
        if not hidden_states:
            raise ModelError(
                f"{type(self._cached.model).__name__} doesn't give its hidden states, which "
                "contrastive search compares. Take another strategy."
            )
        return normalize(hidden_states[-1].float(), dim=-1)

    def _hold_at_last_position(self) -> Tensor | None:
        """Keep rows that are at their end at the last position; which they are, (B * k, 1)."""
        position = self._cached.position
        if self._room != 0 or position is None:
            return None
        last = int(position.max())
        self._cached.position = position.clamp(max=last - 1)
        return position == last
