"""Generated texts -> why each token was chosen: how likely it was, before and after settings.

The texts are read again, token by token, with the processors that were in force; so it works for
every strategy alike. What a loop of its own does between the processors and the choice (contrastive
search, beams) is not in it.
"""

from collections.abc import Sequence
from functools import partial

import torch
from transformers import LogitsProcessorList

from gptft.analysis.score import score_tokens
from gptft.analysis.scored_tokens import ScoredTokens, scored_tokens
from gptft.decoding.batch import batch_context
from gptft.decoding.define import Process
from gptft.decoding.draws import replayed
from gptft.decoding.engine import Generated
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import Settings
from gptft.decoding.strategies import active_processors


def explain(
    loaded: LoadedModel, texts: Sequence[Generated], *, num_runners_up: int = 5
) -> list[ScoredTokens]:
    """Score every new token of `texts`.

    Args:
        loaded: what wrote them.
        texts: with the settings that were in force.
        num_runners_up: other tokens to keep for each.

    Returns:
        the prompt's tokens, without BOS, and the new ones, scored, for each text.
    """
    explained = []
    for text in texts:
        batch = batch_context(loaded, [text.prompt_ids], rows=1)
        processors = LogitsProcessorList(made for _, made in named_processors(text.settings, batch))
        if processors and _draws(text.settings):
            all_of_them = partial(_in_turn, tuple(processors))
            number = text.settings.num_drawn
            processors = LogitsProcessorList(
                [replayed(all_of_them, num_texts=number, place=text.place)]
            )
        torch.manual_seed(text.settings.seed or 0)  # a processor may draw
        ids = [*text.prompt_ids, *text.new_ids]
        before = loaded.special.num_before(text.prompt_ids)
        scores = score_tokens(
            loaded.model, ids, start=len(text.prompt_ids), kept=before, processors=processors,
            num_runners_up=num_runners_up,
        )  # fmt: skip
        explained.append(scored_tokens(loaded.tokenizer, ids[before:], scores))
    return explained


def _draws(settings: Settings) -> bool:
    """Whether a processor drew beside the tokens, one a step; beams and drafts draw otherwise."""
    row = settings.row
    one_a_step = settings.do_sample and not (row.beams or row.single)
    return one_a_step and any(one.draws for one in active_processors(settings))


def _in_turn(
    processors: Sequence[Process], input_ids: torch.Tensor, scores: torch.Tensor
) -> torch.Tensor:
    for processor in processors:
        scores = processor(input_ids, scores)
    return scores
