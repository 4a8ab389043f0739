"""Beam search in groups, for loops that differ in which candidates they keep.

Shapes: B prompts, W beams a prompt, n of them in a group, K candidates, V vocabulary, T tokens so
far, the prompt included. A beam or a candidate whose score is -inf doesn't exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import GenerationConfig

from gptft.decoding.loops.generation_loop import LoopInputs
from gptft.errors import ConfigError


@dataclass(frozen=True)
class Candidates:
    """What the beams of a group may become, each of shape (B, K), the best first.

    Attributes:
        parents: the beam that grows.
        tokens: by what.
        scores: sums of log-probabilities; -inf where there is no candidate.
        ranking: scores, less what diversity costs.
        may_end: whether it counts as a text where it ends here.
    """

    parents: Tensor
    tokens: Tensor
    scores: Tensor
    ranking: Tensor
    may_end: Tensor


class Policy(Protocol):
    """Which candidates there are, and which of them are kept."""

    unmet: str

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> Candidates:
        """Candidates from scores of shape (B, n, V) for the `num_new`th new token."""

    def choose(self, candidates: Candidates, unfinished: Tensor, *, num_beams: int) -> Tensor:
        """Indices (B, n) of candidates, of those marked in unfinished (B, K) if possible."""


@dataclass
class Texts:
    """Texts of B prompts.

    Attributes:
        ids: shape (B, n, T), padded on the right.
        scores: shape (B, n); -inf where there is no text.
        lengths: tokens without the padding on the right, shape (B, n).
    """

    ids: Tensor
    scores: Tensor
    lengths: Tensor

    def best(self, number: int) -> "Texts":
        """The `number` texts of each prompt with the highest scores, the best first."""
        scores, order = self.scores.topk(number, dim=1)
        return Texts(_take(self.ids, order), scores, self.lengths.gather(1, order))


@dataclass
class _Group:
    """The beams of one group and its texts that have ended.

    Attributes:
        ids: of the beams, shape (B, n, T).
        scores: sums of log-probabilities, shape (B, n).
        finished: the n best, by score with length penalty; -inf where there are fewer.
        improvable: whether a beam may still become better than a finished text, shape (B,).
    """

    ids: Tensor
    scores: Tensor
    finished: Texts
    improvable: Tensor

    @classmethod
    def of(cls, ids: Tensor) -> "_Group":
        """A group whose beams are all the same prompt, shape (B, n, T): only one of them counts."""
        num_prompts, num_beams, length = ids.shape
        scores = first_beams(num_prompts, num_beams, device=ids.device)
        none = torch.full_like(scores, -torch.inf)
        finished = Texts(ids, none, torch.full_like(ids[..., 0], length))
        return cls(ids, scores, finished, torch.ones_like(ids[:, 0, 0], dtype=torch.bool))


def beam_search(
    inputs: LoopInputs, *, policies: Sequence[Policy], diversity_penalty: float = 0.0
) -> Tensor:
    """Search in as many groups of beams as there are policies.

    Raises:
        ConfigError: a prompt gets no text.
    """
    width = inputs.num_beams
    num_beams = width // len(policies)
    prompts = inputs.input_ids.unflatten(0, (-1, width))  # (B, W, T)
    groups = [_Group.of(beams) for beams in prompts.split(num_beams, dim=1)]
    cached, output = inputs.read_prompts()
    logits, num_new = output.logits[:, -1].float(), 0  # (B * W, V)
    while True:
        num_new += 1
        ids = torch.cat([group.ids for group in groups], dim=1).flatten(0, 1)  # (B * W, T)
        log_probs = inputs.logits_processor(ids, logits.log_softmax(dim=-1))
        log_probs = log_probs.unflatten(0, (-1, width))  # (B, W, V)
        chosen = torch.zeros_like(log_probs[:, 0])  # (B, V), by how many beams of earlier groups
        parents = []
        for g, (group, policy) in enumerate(zip(groups, policies, strict=True)):
            totals = log_probs[:, g * num_beams : (g + 1) * num_beams] + group.scores[..., None]
            ranking = totals - diversity_penalty * chosen[:, None] if g else totals
            candidates = policy.propose(totals, ranking, num_new=num_new)
            kept, taken = _advance(inputs, group, candidates, policy, num_new=num_new)
            parents.append(candidates.parents.gather(1, kept) + g * num_beams)
            chosen.scatter_add_(1, candidates.tokens, taken.to(chosen.dtype))
        if not any(bool(group.improvable.any()) for group in groups):
            finished = _joined(*(group.finished for group in groups))
            return best_texts(inputs, finished, unmet=policies[0].unmet)
        cached.select_rows(flat_rows(torch.cat(parents, dim=1), width))
        last = torch.cat([group.ids[..., -1] for group in groups], dim=1)  # (B, W)
        logits = cached.next_logits(last.view(-1, 1))


def _advance(
    inputs: LoopInputs, group: _Group, candidates: Candidates, policy: Policy, *, num_new: int
) -> tuple[Tensor, Tensor]:
    """Let a group become the best of its candidates.

    Returns:
        the indices of those, shape (B, n), and which candidates the group chose, those that ended
        with this token among them, shape (B, K).
    """
    tokens = candidates.tokens[..., None]
    grown = torch.cat([_take(group.ids, candidates.parents), tokens], dim=-1)  # (B, K, T + 1)
    stops = inputs.stopping_criteria(grown.flatten(0, 1), None).view(grown.shape[:2])
    exists = candidates.scores > -torch.inf
    unfinished = exists & ~stops
    num_beams = group.scores.shape[1]
    kept = policy.choose(candidates, unfinished, num_beams=num_beams)
    ends = stops & candidates.may_end & group.improvable[:, None] & exists
    continues = torch.zeros_like(stops).scatter(1, kept, True) & unfinished
    taken = ends | (continues & group.improvable[:, None])
    scores = candidates.scores / num_new**inputs.config.length_penalty
    lengths = torch.full_like(candidates.tokens, grown.shape[-1])
    just_finished = Texts(grown, scores.masked_fill(~ends, -torch.inf), lengths)
    padding = torch.full_like(group.finished.ids[..., :1], inputs.pad_id)
    group.finished.ids = torch.cat([group.finished.ids, padding], dim=-1)
    group.finished = _joined(group.finished, just_finished).best(num_beams)
    group.ids = _take(grown, kept)
    group.scores = candidates.scores.masked_fill(~unfinished, -torch.inf).gather(1, kept)
    group.improvable = group.improvable & _improvable(group, inputs.config, num_new=num_new)
    return kept, taken


def _improvable(group: _Group, config: GenerationConfig, *, num_new: int) -> Tensor:
    """Whether a beam may still end better than the worst finished text, shape (B,).

    The best beam is weighed as if it ended now or, with early_stopping "never" and a length penalty
    that favours length, as late as possible. With early_stopping True n finished texts are enough.
    """
    length = num_new
    if config.early_stopping == "never" and config.length_penalty > 0.0:
        length = int(config.max_length) - (group.ids.shape[-1] - num_new)
    best = group.scores.amax(dim=1) / length**config.length_penalty
    worst = group.finished.scores.amin(dim=1)  # -inf while there is room for more
    improvable: Tensor = best > worst
    return improvable & (worst == -torch.inf) if config.early_stopping is True else improvable


def best_texts(inputs: LoopInputs, texts: Texts, *, unmet: str) -> Tensor:
    """Rows of the num_return_sequences best texts of each prompt, as long as the longest of them.

    Where there are fewer texts than that the best one fills up.

    Raises:
        ConfigError: a prompt has none, which `unmet` explains.
    """
    best = texts.best(int(inputs.config.num_return_sequences))
    missing = best.scores == -torch.inf
    if bool(missing[:, 0].any()):
        raise ConfigError(unmet)
    rows = torch.where(missing[..., None], best.ids[:, :1], best.ids)
    longest = int(best.lengths.masked_fill(missing, 0).amax())
    return rows[..., :longest].flatten(0, 1)


def _joined(*parts: Texts) -> Texts:
    """All texts of each prompt."""
    columns = zip(*((part.ids, part.scores, part.lengths) for part in parts), strict=True)
    return Texts(*(torch.cat(column, dim=1) for column in columns))


def first_beams(num_prompts: int, num_beams: int, *, device: torch.device) -> Tensor:
    """Scores of beams that are still the same text, shape (B, n): 0 for the first, -inf else."""
    scores = torch.full((num_prompts, num_beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    return scores


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Values (B, K, T) at index (B, n): shape (B, n, T)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def flat_rows(parents: Tensor, width: int) -> Tensor:
    """Rows of a batch from beams of each prompt, shape (B, W): shape (B * W,)."""
    first = torch.arange(len(parents), device=parents.device)[:, None] * width
    return (parents + first).flatten()
