"""Constrained beam search, a loop for `generate`: the likeliest texts that hold required words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptft.decoding.loops.beam_search import Candidates, beam_search
from gptft.decoding.loops.generation_loop import LoopInputs, generation_loop
from gptft.decoding.loops.required_words import RequiredWords, State, read_required_words

_Candidate = tuple[float, int, int, State]  # score, parent, token, state


@generation_loop
def constrained_beam_search(
    inputs: LoopInputs, *, constraints: Sequence[Sequence[Sequence[int]]]
) -> Tensor:
    """Find the likeliest texts that hold every one of some words.

    Beams are shared out evenly among texts with as many of the words' tokens. EOS is blocked until
    all words are there, and near max_length only what still leaves room for them is written.

    Args:
        inputs: what `generate` hands to a loop.
        constraints: the words, each a list of alternatives, of which any one will do; without words
            this is beam search.

    Returns:
        ids of shape (B * num_return_sequences, T + new); each text holds all words behind its
        prompt.

    Raises:
        ConfigError: there isn't room for the words, or other settings forbid them.

    Source: Post and Vilar 2018 (1804.06609), section 3.
    """
    room = int(inputs.config.max_length) - inputs.input_ids.shape[1]
    if inputs.config.forced_eos_token_id is not None:
        room -= 1
    words = read_required_words(constraints, max_new_tokens=room)
    return beam_search(inputs, policies=[_Banks(words, inputs.eos_ids, room=room)])


@dataclass
class _Banks:
    """Candidates shared out evenly among banks: as many tokens of the words, one bank."""

    words: RequiredWords
    eos: Sequence[int]
    room: int
    unmet: str = (
        "force_words can't all be written under these settings: bad_words, no_repeat_ngram_size, "
        "stop_strings, max_time or the like forbid a token of theirs or end the text before."
    )
    states: list[list[State]] = field(default_factory=list)
    proposed: list[list[State]] = field(default_factory=list)

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> Candidates:
        num_prompts, num_beams, num_ids = totals.shape
        if not self.states:
            self.states = [[self.words.start] * num_beams for _ in range(num_prompts)]
        totals = self._without_early_end(totals)
        keep = min(max(2, 1 + len(self.eos)) * num_beams, num_ids)
        likeliest = totals.topk(keep, dim=-1)[1].tolist()  # (B, n, keep)
        useful = [[self.words.useful(state) for state in beams] for beams in self.states]
        most = max(len(tokens) for beams in useful for tokens in beams)
        filled = [  # up to one length with tokens that are there already
            [ids + own + ids[:1] * (most - len(own)) for ids, own in zip(*beams, strict=True)]
            for beams in zip(likeliest, useful, strict=True)
        ]
        tokens = torch.tensor(filled, device=totals.device)  # (B, n, keep + most)
        scores = totals.gather(-1, tokens)
        left = max(0, self.room - num_new)
        rows = [
            self._viable(*beams, left=left)
            for beams in zip(self.states, filled, scores.tolist(), strict=True)
        ]
        return self._padded(rows, num_beams=num_beams, device=totals.device)

    def choose(self, candidates: Candidates, unfinished: Tensor, *, num_beams: int) -> Tensor:
        chosen = []
        for b, marks in enumerate(unfinished.tolist()):
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
        return torch.tensor(chosen, device=unfinished.device)

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
        self, states: list[State], tokens: list[list[int]], scores: list[list[float]], *, left: int
    ) -> list[_Candidate]:
        """What leaves room for the missing words, best first."""
        found: dict[tuple[int, int], _Candidate] = {}
        for parent, (ids, values) in enumerate(zip(tokens, scores, strict=True)):
            for token, score in zip(ids, values, strict=True):
                if score == -torch.inf or (parent, token) in found:
                    continue
                state = self.words.after(states[parent], token)
                if self.words.needed(state) <= left:
                    found[parent, token] = (score, parent, token, state)
        return sorted(found.values(), key=lambda row: -row[0])

    def _padded(
        self, rows: list[list[_Candidate]], *, num_beams: int, device: torch.device
    ) -> Candidates:
        """Rows of one length; the last of each is none, for `choose` to fall back on."""
        none = (-torch.inf, 0, 0, self.words.start)
        longest = max(map(len, rows)) + 1
        full = [row + [none] * (longest - len(row)) for row in rows]
        self.proposed = [[state for *_, state in row] for row in full]
        met = torch.tensor([[self.words.needed(s) == 0 for s in row] for row in self.proposed])
        scores, parents, tokens = (
            torch.tensor([[candidate[column] for candidate in row] for row in full]).to(device)
            for column in range(3)
        )
        may_end = (met & (met.cumsum(dim=1) <= num_beams)).to(device)
        return Candidates(parents, tokens, scores, ranking=scores, may_end=may_end)
