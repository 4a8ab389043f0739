"""Beam sampling, a loop for `generate`: beams whose continuations are drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gptft.decoding.loops.beam_search import beam_search
from gptft.decoding.loops.diverse_beams import Likeliest, num_candidates
from gptft.decoding.loops.generation_loop import LoopInputs, generation_loop


@generation_loop
def beam_sampling(inputs: LoopInputs) -> Tensor:
    """Keep num_beams texts; draw their continuations by the probabilities of whole texts so far.

    Draws are from torch's global state, the same ones as those of transformers' own loop.

    Returns:
        ids of shape (B * num_return_sequences, T + new), the best first.

    Raises:
        ConfigError: other settings leave no token to write.

    Source: transformers' beam-search multinomial sampling.
    """
    return beam_search(inputs, policies=[_Drawn(num_candidates=num_candidates(inputs))])


@dataclass
class _Drawn(Likeliest):
    """Candidates of all beams together, drawn without replacement."""

    def pick(self, ranking: Tensor, *, number: int) -> Tensor:
        # Of a prompt without a beam left any will do: none of its candidates exists.
        probabilities = ranking.softmax(dim=-1).nan_to_num(nan=1.0)
        return torch.multinomial(probabilities, number)
