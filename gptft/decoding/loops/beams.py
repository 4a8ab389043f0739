"""Beam searches that `generate` doesn't have: diverse, constrained and stochastic.

In: what `generate` hands to its `custom_generate` loops. Out: ids of shape
(B * num_return_sequences, T + new), the best text of each prompt first, filled up with padding.

`generate` hands a loop what it has prepared (attention_mask, position_ids, past_key_values) only
where the loop doesn't name it, so these travel in `model_kwargs`.

Shapes: B prompts, W beams a prompt, n of them in a group, K candidates, V vocabulary, T tokens so
far, the prompt included. A beam or a candidate whose score is -inf isn't there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from gptft.decoding.loops.beam_constraints import State, Words, read_words
from gptft.errors import ConfigError

_NOTHING_LEFT = (
    "The settings leave no token to write. Look at bad_words, suppress_tokens, allowed_words and "
    "the like."
)


def diverse_beam_search(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    num_beam_groups: int = 1,
    diversity_penalty: float = 0.0,
    **model_kwargs: Any,
) -> Tensor:
    """Search in groups of beams, each kept away from the tokens that earlier groups chose.

    A token's place among a group's candidates is lowered by `diversity_penalty` times the beams of
    earlier groups that go on with it at this step. The score of a text stays its own
    log-probability over its length to the power of length_penalty, so texts of all groups compare.

    Args:
        model: a causal one.
        input_ids: shape (B * W, T), each prompt W times, padded on the left.
        logits_processor: applied to log-probabilities, as transformers' own beam search does.
        stopping_criteria: what ends a text, max_length among it.
        generation_config: its num_beams, num_return_sequences, length_penalty, early_stopping,
            max_length, EOS and PAD count.
        num_beam_groups: divides num_beams; 1 is beam search.
        diversity_penalty: in nats, >= 0.
        **model_kwargs: attention_mask, position_ids and what else the model reads.

    Returns:
        ids of shape (B * num_return_sequences, T + new); all W texts where that many are asked for.

    Raises:
        ConfigError: num_beams can't be divided, or other settings leave no token to write.

    Source: Vijayakumar et al. 2016 (1610.02424), section 3, with Hamming diversity.
    """
    width = _width(generation_config)
    if num_beam_groups < 1 or width % num_beam_groups:
        raise ConfigError(
            f"num_beams {width} can't be split into num_beam_groups {num_beam_groups}. Take a "
            "number of groups that divides the beams."
        )
    keep = max(2, 1 + len(_eos(generation_config))) * width // num_beam_groups
    return _search(
        _Reader.of(model, model_kwargs),
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        policies=[_Likeliest(num_candidates=keep) for _ in range(num_beam_groups)],
        diversity_penalty=diversity_penalty,
    )


def constrained_beam_search(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    constraints: Sequence[Sequence[Sequence[int]]],
    **model_kwargs: Any,
) -> Tensor:
    """Find the likeliest texts that hold every one of some words.

    Beams are shared out evenly among texts with as many of the words' tokens. EOS is blocked until
    all words are there, and near max_length only what still leaves room for them is written.

    Args:
        model: a causal one.
        input_ids: shape (B * W, T), each prompt W times, padded on the left.
        logits_processor: applied to log-probabilities, as transformers' own beam search does.
        stopping_criteria: what ends a text, max_length among it.
        generation_config: as for `diverse_beam_search`.
        constraints: the words, each a list of alternatives, of which any one will do; without words
            this is beam search.
        **model_kwargs: attention_mask, position_ids and what else the model reads.

    Returns:
        ids of shape (B * num_return_sequences, T + new); each text holds all words behind its
        prompt.

    Raises:
        ConfigError: there isn't room for the words, or other settings forbid them.

    Source: Post and Vilar 2018 (1804.06609), section 3.
    """
    room = int(generation_config.max_length) - input_ids.shape[1]
    if generation_config.forced_eos_token_id is not None:
        room -= 1
    words = read_words(constraints, max_new_tokens=room)
    return _search(
        _Reader.of(model, model_kwargs),
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        policies=[_Banks(words, _eos(generation_config), room=room)],
    )


def stochastic_beam_search(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> Tensor:
    """Draw num_beams different texts a prompt, without replacement, from torch's global state.

    Args:
        model: a causal one.
        input_ids: shape (B * W, T), each prompt W times, padded on the left.
        logits_processor: applied to log-probabilities; what it leaves is made to sum to 1 again.
        stopping_criteria: what ends a text, max_length among it.
        generation_config: its num_beams, num_return_sequences, EOS and PAD count.
        **model_kwargs: attention_mask, position_ids and what else the model reads.

    Returns:
        ids of shape (B * num_return_sequences, T + new), by falling perturbed log-probability. All
        differ unless there are fewer texts than that.

    Raises:
        ConfigError: other settings leave no token to write.

    Source: Kool, van Hoof and Welling 2019 (1903.06059), algorithm 1.
    """
    reader = _Reader.of(model, model_kwargs)
    width = _width(generation_config)
    num_prompts, prompt_length = input_ids.shape[0] // width, input_ids.shape[1]
    pad = _pad(generation_config)
    rows = input_ids
    log_probs = _first_alone(num_prompts, width, device=rows.device).to(_precise(rows.device))
    perturbed = log_probs.clone()
    ended = torch.zeros_like(perturbed, dtype=torch.bool)
    lengths = torch.zeros_like(ended, dtype=torch.long)
    unread = rows
    while not bool((ended | (perturbed == -torch.inf)).all()):
        steps = _log_probs(reader, unread, rows, logits_processor).to(perturbed.dtype)
        steps = steps.log_softmax(-1).unflatten(0, (-1, width))
        steps = steps.masked_fill(steps.isnan(), -torch.inf)  # a row of nothing but -inf
        steps = _only_padding(steps, ended, pad=pad)
        parents, tokens, log_probs, perturbed = draw_children(steps, log_probs, perturbed)
        flat = _flat(parents, width)
        rows = torch.cat([rows[flat], tokens.view(-1, 1)], dim=1)
        ended = ended.gather(1, parents)
        lengths = lengths.gather(1, parents) + ~ended
        ended = ended | stopping_criteria(rows, None).view(-1, width)
        reader.reorder(flat)
        unread = rows[:, -1:]
    rows = rows.unflatten(0, (-1, width))
    texts = _Texts(rows, perturbed, lengths + prompt_length)
    return _best(texts, generation_config, unmet=_NOTHING_LEFT)


def draw_children(
    steps: Tensor, log_probs: Tensor, perturbed: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of sampling without replacement: the W children of the highest perturbed score.

    Children's Gumbel noise is drawn under the condition that the highest of them has its parent's
    score, which makes the W kept over all steps the W highest of all texts.

    Args:
        steps: log-probabilities of the next token, shape (B, W, V), float64.
        log_probs: of the texts so far, shape (B, W).
        perturbed: log_probs and noise, shape (B, W); -inf where there is no text.

    Returns:
        parents, tokens, log_probs and perturbed of the children, each of shape (B, W), by falling
        perturbed score.

    Source: Kool, van Hoof and Welling 2019 (1903.06059), sections 3.1 and 4.1, appendix B.3.
    """
    width, num_ids = steps.shape[1:]
    totals = log_probs[..., None] + steps
    noise = torch.empty_like(totals).exponential_().clamp_min(torch.finfo(totals.dtype).tiny)
    drawn = totals - noise.log()
    highest = drawn.amax(dim=-1, keepdim=True)
    # T - max(0, v) - log1p(exp(-|v|)) is -log(exp(-T) - exp(-Z) + exp(-G)) without overflow.
    target = perturbed[..., None]
    v = target - drawn + torch.log1p(-torch.exp(drawn - highest))
    moved = target - v.clamp_min(0.0) - torch.log1p(torch.exp(-v.abs()))
    moved = torch.where((drawn == -torch.inf) | (target == -torch.inf), -torch.inf, moved)
    scores, index = moved.flatten(1).topk(width, dim=1)
    return index // num_ids, index % num_ids, totals.flatten(1).gather(1, index), scores


@dataclass
class _Reader:
    """A model that reads rows token by token, and its memory of them."""

    model: PreTrainedModel
    cache: Any
    mask: Tensor | None
    positions: Tensor | None
    others: dict[str, Any]

    @classmethod
    def of(cls, model: PreTrainedModel, model_kwargs: dict[str, Any]) -> "_Reader":
        others = dict(model_kwargs)
        cache = others.pop("past_key_values", None)
        others.pop("use_cache", None)
        mask, positions = others.pop("attention_mask", None), others.pop("position_ids", None)
        if cache is None:
            cache = DynamicCache(config=model.config)
        return cls(model, cache, mask, positions, others)

    def read(self, tokens: Tensor) -> Tensor:
        """Read (B * W, any number of) ids; the logits of what comes next, (B * W, V), float32."""
        inputs: dict[str, Any] = dict(self.others)
        if self.mask is not None:
            inputs["attention_mask"] = self.mask
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        if self.positions is not None:
            inputs["position_ids"] = self.positions
            self.positions = self.positions[..., -1:] + 1
        output = self.model(tokens, past_key_values=self.cache, use_cache=True, **inputs)
        logits: Tensor = output.logits[:, -1]
        return logits.to(device=tokens.device, dtype=torch.float32, copy=True)

    def reorder(self, rows: Tensor) -> None:
        """Remember row rows[i] as row i; mask and positions are alike for all rows of a prompt."""
        self.cache.reorder_cache(rows)


@dataclass(frozen=True)
class _Candidates:
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


class _Policy(Protocol):
    """Which candidates there are, and with which of them the search goes on."""

    unmet: str

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> _Candidates:
        """Candidates from scores of shape (B, n, V) for the `num_new`th new token."""

    def choose(self, candidates: _Candidates, going_on: Tensor, *, num_beams: int) -> Tensor:
        """Indices, shape (B, n), of candidates; of those marked in going_on (B, K) if possible."""


@dataclass
class _Likeliest:
    """The likeliest candidates of all beams together."""

    num_candidates: int
    unmet: str = _NOTHING_LEFT

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> _Candidates:
        num_beams, num_ids = totals.shape[1:]
        keep = min(self.num_candidates, num_beams * num_ids)
        ranks, index = ranking.flatten(1).topk(keep, dim=1)
        scores = totals.flatten(1).gather(1, index)
        # The rest stands by, so that the search goes on where all of the first ones end.
        may_end = (torch.arange(keep, device=totals.device) < num_beams).expand_as(index)
        return _Candidates(index // num_ids, index % num_ids, scores, ranks, may_end)

    def choose(self, candidates: _Candidates, going_on: Tensor, *, num_beams: int) -> Tensor:
        return candidates.ranking.masked_fill(~going_on, -torch.inf).topk(num_beams, dim=1)[1]


@dataclass
class _Banks:
    """Candidates shared out evenly among banks: as many tokens of the words, one bank."""

    words: Words
    eos: Sequence[int]
    room: int
    unmet: str = (
        "force_words can't all be written under these settings: bad_words, no_repeat_ngram_size, "
        "stop_strings, max_time or the like forbid a token of theirs or end the text before."
    )
    states: list[list[State]] = field(default_factory=list)
    proposed: list[list[State]] = field(default_factory=list)

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> _Candidates:
        num_prompts, num_beams, num_ids = totals.shape
        if not self.states:
            self.states = [[self.words.start] * num_beams for _ in range(num_prompts)]
        totals = self._without_early_end(totals)
        keep = min(max(2, 1 + len(self.eos)) * num_beams, num_ids)
        useful = [[self.words.useful(state) for state in beams] for beams in self.states]
        most = max(len(tokens) for beams in useful for tokens in beams)
        filled = [[t + [-1] * (most - len(t)) for t in beams] for beams in useful]
        needed = torch.tensor(filled, device=totals.device, dtype=torch.long)
        needed = needed.view(num_prompts, num_beams, most)
        likeliest = totals.topk(keep, dim=-1)[1]
        needed = torch.where(needed < 0, likeliest[..., :1], needed)
        tokens = torch.cat([likeliest, needed], dim=-1)
        scores = totals.gather(-1, tokens)
        rows = [
            self._viable(beams, ids, values, left=max(0, self.room - num_new))
            for beams, ids, values in zip(
                self.states, tokens.tolist(), scores.tolist(), strict=True
            )
        ]
        return self._padded(rows, num_beams=num_beams, device=totals.device)

    def choose(self, candidates: _Candidates, going_on: Tensor, *, num_beams: int) -> Tensor:
        chosen = []
        for b, marks in enumerate(going_on.tolist()):
            banks: dict[int, list[int]] = {}
            for k, mark in enumerate(marks):
                if mark:
                    banks.setdefault(self.words.needed(self.proposed[b][k]), []).append(k)
            # Turn by turn, the fullest bank first: places that a bank can't fill go to the others.
            turns = sorted(
                (turn, bank, k) for bank, ks in banks.items() for turn, k in enumerate(ks)
            )
            ks = sorted(k for _, _, k in turns[:num_beams])
            ks += [len(marks) - 1] * (num_beams - len(ks))
            self.states[b] = [self.proposed[b][k] for k in ks]
            chosen.append(ks)
        return torch.tensor(chosen, device=going_on.device)

    def _without_early_end(self, totals: Tensor) -> Tensor:
        if not self.eos:
            return totals
        open_words = [[self.words.needed(state) > 0 for state in beams] for beams in self.states]
        blocked = totals.new_zeros(totals.shape, dtype=torch.bool)
        blocked[..., list(self.eos)] = True
        return totals.masked_fill(
            blocked & torch.tensor(open_words, device=totals.device)[..., None], -torch.inf
        )

    def _viable(
        self,
        states: Sequence[State],
        tokens: Sequence[Sequence[int]],
        scores: Sequence[Sequence[float]],
        *,
        left: int,
    ) -> list[tuple[float, int, int, State]]:
        """(score, parent, token, state) of what leaves room for the missing words, best first."""
        found: dict[tuple[int, int], tuple[float, int, int, State]] = {}
        for parent, (ids, values) in enumerate(zip(tokens, scores, strict=True)):
            for token, score in zip(ids, values, strict=True):
                if score == -torch.inf or (parent, token) in found:
                    continue
                state = self.words.after(states[parent], token)
                if self.words.needed(state) <= left:
                    found[parent, token] = (score, parent, token, state)
        return sorted(found.values(), key=lambda row: -row[0])

    def _padded(
        self,
        rows: Sequence[list[tuple[float, int, int, State]]],
        *,
        num_beams: int,
        device: torch.device,
    ) -> _Candidates:
        """Rows of one length; the last of each is none, for `choose` to fall back on."""
        none = (-torch.inf, 0, 0, self.words.start)
        longest = max(map(len, rows)) + 1
        full = [row + [none] * (longest - len(row)) for row in rows]
        self.proposed = [[state for *_, state in row] for row in full]
        met = torch.tensor([[self.words.needed(s) == 0 for s in row] for row in self.proposed])
        scores = torch.tensor([[row[0] for row in rows_] for rows_ in full]).to(device)
        return _Candidates(
            parents=torch.tensor([[row[1] for row in rows_] for rows_ in full]).to(device),
            tokens=torch.tensor([[row[2] for row in rows_] for rows_ in full]).to(device),
            scores=scores,
            ranking=scores,
            may_end=(met & (met.cumsum(dim=1) <= num_beams)).to(device),
        )


@dataclass
class _Texts:
    """Texts of B prompts.

    Attributes:
        rows: ids, shape (B, n, T), padded on the right.
        scores: shape (B, n); -inf where there is no text.
        lengths: tokens without the padding on the right, shape (B, n).
    """

    rows: Tensor
    scores: Tensor
    lengths: Tensor

    def best(self, number: int) -> "_Texts":
        """The `number` texts of each prompt with the highest scores, the best first."""
        scores, order = self.scores.topk(number, dim=1)
        return _Texts(_take(self.rows, order), scores, self.lengths.gather(1, order))


@dataclass
class _Group:
    """The beams of one group and its texts that have ended.

    Attributes:
        rows: ids of the beams, shape (B, n, T).
        scores: sums of log-probabilities, shape (B, n).
        ended: the n best, by score with length penalty; -inf where there are fewer.
        improvable: whether a beam may still become better than an ended text, shape (B,).
    """

    rows: Tensor
    scores: Tensor
    ended: _Texts
    improvable: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "_Group":
        """A group whose beams are all the same prompt, shape (B, n, T): only one of them counts."""
        num_prompts, num_beams, length = rows.shape
        scores = _first_alone(num_prompts, num_beams, device=rows.device)
        none = torch.full_like(scores, -torch.inf)
        ended = _Texts(rows, none, torch.full_like(rows[..., 0], length))
        return cls(rows, scores, ended, torch.ones_like(rows[:, 0, 0], dtype=torch.bool))


def _search(
    reader: _Reader,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    *,
    policies: Sequence[_Policy],
    diversity_penalty: float = 0.0,
) -> Tensor:
    """Beam search in as many groups as there are policies."""
    width = _width(config)
    rows = input_ids.unflatten(0, (-1, width))
    num_beams = width // len(policies)
    groups = [_Group.of(part) for part in rows.split(num_beams, dim=1)]
    unread, num_new = input_ids, 0
    while any(bool(group.improvable.any()) for group in groups):
        num_new += 1
        rows = torch.cat([group.rows for group in groups], dim=1).flatten(0, 1)
        log_probs = _log_probs(reader, unread, rows, logits_processor)
        log_probs = log_probs.unflatten(0, (-1, width))  # (B, W, V)
        chosen = torch.zeros_like(log_probs[:, 0])  # (B, V), by how many beams of earlier groups
        parents = []
        for g, (group, policy) in enumerate(zip(groups, policies, strict=True)):
            totals = log_probs[:, g * num_beams : (g + 1) * num_beams] + group.scores[..., None]
            ranking = totals - diversity_penalty * chosen[:, None] if g else totals
            candidates = policy.propose(totals, ranking, num_new=num_new)
            still = group.improvable.to(chosen.dtype)[:, None]
            choose = partial(policy.choose, num_beams=num_beams)
            kept = _advance(group, candidates, choose, stopping_criteria, config, num_new=num_new)
            parents.append(candidates.parents.gather(1, kept) + g * num_beams)
            tokens = candidates.tokens.gather(1, kept)
            chosen.scatter_add_(1, tokens, (group.scores > -torch.inf) * still)
        reader.reorder(_flat(torch.cat(parents, dim=1), width))
        unread = torch.cat([group.rows[..., -1] for group in groups], dim=1).view(-1, 1)
    return _best(_joined(*(group.ended for group in groups)), config, unmet=policies[0].unmet)


def _advance(
    group: _Group,
    candidates: _Candidates,
    choose: Callable[[_Candidates, Tensor], Tensor],
    stopping_criteria: StoppingCriteriaList,
    config: GenerationConfig,
    *,
    num_new: int,
) -> Tensor:
    """Let a group become the best of its candidates; their indices, shape (B, n)."""
    tokens = candidates.tokens[..., None]
    grown = torch.cat([_take(group.rows, candidates.parents), tokens], dim=-1)  # (B, K, T + 1)
    stops = stopping_criteria(grown.flatten(0, 1), None).view(grown.shape[:2])
    going_on = ~stops & (candidates.scores > -torch.inf)
    kept = choose(candidates, going_on)
    ends = stops & candidates.may_end & group.improvable[:, None]
    scores = candidates.scores / num_new**config.length_penalty
    just_ended = _Texts(
        grown,
        scores.masked_fill(~ends, -torch.inf),
        torch.full_like(candidates.tokens, grown.shape[-1]),
    )
    padding = torch.full_like(group.ended.rows[..., :1], _pad(config))
    group.ended.rows = torch.cat([group.ended.rows, padding], dim=-1)
    group.ended = _joined(group.ended, just_ended).best(group.scores.shape[1])
    group.rows = _take(grown, kept)
    group.scores = candidates.scores.masked_fill(~going_on, -torch.inf).gather(1, kept)
    group.improvable = group.improvable & _improvable(group, config, num_new=num_new)
    return kept


def _improvable(group: _Group, config: GenerationConfig, *, num_new: int) -> Tensor:
    """Whether a beam may still end better than the worst ended text, shape (B,).

    The best beam is weighed as if it ended now or, with early_stopping "never" and a length penalty
    that favours length, as late as possible. With early_stopping True n ended texts are enough.
    """
    length = num_new
    if config.early_stopping == "never" and config.length_penalty > 0.0:
        length = int(config.max_length) - (group.rows.shape[-1] - num_new)
    best = group.scores.amax(dim=1) / length**config.length_penalty
    worst = group.ended.scores.amin(dim=1)  # -inf while there is room for more
    improvable: Tensor = best > worst
    return improvable & (worst == -torch.inf) if config.early_stopping is True else improvable


def _best(texts: _Texts, config: GenerationConfig, *, unmet: str) -> Tensor:
    """Rows of the num_return_sequences best texts of each prompt, as long as the longest of them.

    Where there are fewer texts than that the best one fills up.

    Raises:
        ConfigError: a prompt has none, which `unmet` explains.
    """
    best = texts.best(int(config.num_return_sequences))
    missing = best.scores == -torch.inf
    if bool(missing[:, 0].any()):
        raise ConfigError(unmet)
    rows = torch.where(missing[..., None], best.rows[:, :1], best.rows)
    longest = int(best.lengths.masked_fill(missing, 0).amax())
    return rows[..., :longest].flatten(0, 1)


def _joined(*parts: _Texts) -> _Texts:
    """All texts of each prompt."""
    return _Texts(
        torch.cat([part.rows for part in parts], dim=1),
        torch.cat([part.scores for part in parts], dim=1),
        torch.cat([part.lengths for part in parts], dim=1),
    )


def _log_probs(
    reader: _Reader, unread: Tensor, rows: Tensor, logits_processor: LogitsProcessorList
) -> Tensor:
    """Log-probabilities of what follows `rows`, processed, shape (B * W, V)."""
    log_probs = reader.read(unread).log_softmax(dim=-1)
    return logits_processor(rows, log_probs)  # type: ignore[arg-type]


def _first_alone(num_prompts: int, num_beams: int, *, device: torch.device) -> Tensor:
    """Scores of beams that are still the same text, shape (B, n): 0 for the first, -inf else."""
    scores = torch.full((num_prompts, num_beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    return scores


def _precise(device: torch.device) -> torch.dtype:
    """The widest type that a device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64


def _only_padding(steps: Tensor, ended: Tensor, *, pad: int) -> Tensor:
    """Let ended texts, marked in (B, W), go on with padding for sure: they stay what they are."""
    steps = steps.masked_fill(ended[..., None], -torch.inf)
    steps[..., pad] = steps[..., pad].masked_fill(ended, 0.0)
    return steps


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Values (B, K, T) at index (B, n): shape (B, n, T)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _flat(parents: Tensor, width: int) -> Tensor:
    """Rows of a batch from beams of each prompt, shape (B, W): shape (B * W,)."""
    first = torch.arange(len(parents), device=parents.device)[:, None] * width
    return (parents + first).flatten()


def _width(config: GenerationConfig) -> int:
    """How often `generate` repeats each prompt."""
    return max(int(config.num_beams), int(config.num_return_sequences))


def _eos(config: GenerationConfig) -> list[int]:
    eos = config.eos_token_id
    return [] if eos is None else [eos] if isinstance(eos, int) else [int(i) for i in eos]


def _pad(config: GenerationConfig) -> int:
    return int(config.pad_token_id or 0)
