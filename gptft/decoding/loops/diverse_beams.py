"""Diverse beam search, a loop for `generate`: groups of beams kept apart from each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gptft.decoding.logprobs import NO_TOKEN_LEFT
from gptft.decoding.loops.beam_search import Candidates, beam_search
from gptft.decoding.loops.generation_loop import LoopInputs, generation_loop


@generation_loop
def diverse_beam_search(
    inputs: LoopInputs, *, num_beam_groups: int = 1, diversity_penalty: float = 0.0
) -> Tensor:
    """Search in groups of beams, each kept away from the tokens that earlier groups chose.

    A token's place among a group's candidates is lowered by `diversity_penalty` times the beams of
    earlier groups that chose it at this step, those that ended with it among them. The score of a
    text stays its own log-probability over its length to the power of length_penalty, so texts of
    all groups compare.

    Args:
        inputs: what `generate` hands to a loop.
        num_beam_groups: divides num_beams; 1 is beam search.
        diversity_penalty: in nats, >= 0.

    Returns:
        ids of shape (B * num_return_sequences, T + new); all W texts where that many are asked for.

    Raises:
        ConfigError: other settings leave no token to write.

    Source: Vijayakumar et al. 2016 (1610.02424), section 3, with Hamming diversity.
    """
    keep = num_candidates(inputs) // num_beam_groups
    policies = [Likeliest(num_candidates=keep) for _ in range(num_beam_groups)]
    return beam_search(inputs, policies=policies, diversity_penalty=diversity_penalty)


def num_candidates(inputs: LoopInputs) -> int:
    """Candidates to look at, of which one a beam is left if every EOS is among those of each."""
    return max(2, 1 + len(inputs.eos_ids)) * inputs.num_beams


@dataclass
class Likeliest:
    """The likeliest candidates of all beams together."""

    num_candidates: int
    unmet: str = NO_TOKEN_LEFT

    def pick(self, ranking: Tensor, *, number: int) -> Tensor:
        """Indices (B, number) of candidates ranked by (B, n * V)."""
        return ranking.topk(number, dim=1)[1]

    def propose(self, totals: Tensor, ranking: Tensor, *, num_new: int) -> Candidates:
        """See `Policy`."""
        num_beams, num_ids = totals.shape[1:]
        number = min(self.num_candidates, num_beams * num_ids)
        index = self.pick(ranking.flatten(1), number=number)
        ranks, scores = (values.flatten(1).gather(1, index) for values in (ranking, totals))
        # The rest stands by, so that the search continues where all of the first ones end.
        may_end = (torch.arange(number, device=totals.device) < num_beams).expand_as(index)
        return Candidates(index // num_ids, index % num_ids, scores, ranks, may_end)

    def choose(self, candidates: Candidates, unfinished: Tensor, *, num_beams: int) -> Tensor:
        """See `Policy`."""
        return candidates.ranking.masked_fill(~unfinished, -torch.inf).topk(num_beams, dim=1)[1]
