"""Texts a model wrote -> why each token was chosen: how likely it was, before and after settings.

In: a `Writer` and what it wrote. Out: scored pieces a text. The texts are read again, token by
token, with the processors that were in force; so it works for every strategy alike. What a loop of
its own does between the processors and the choice (contrastive search, beams) is not in it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessorList

from gptft.decoding.processors import named_processors
from gptft.decoding.rows import scene_of
from gptft.decoding.scoring import score_tokens
from gptft.decoding.token_view import ScoredPiece, scored_pieces
from gptft.decoding.writer import Writer

if TYPE_CHECKING:
    from gptft.decoding.engine import Generated


def explain(
    writer: Writer, texts: Sequence["Generated"], *, num_runners_up: int = 5
) -> list[tuple[ScoredPiece, ...]]:
    """Score every new token of `texts`.

    Args:
        writer: what wrote them.
        texts: with the settings that were in force.
        num_runners_up: other tokens to keep for each.

    Returns:
        the prompt's tokens and the new ones, scored, for each text.
    """
    explained = []
    for text in texts:
        scene = scene_of(writer, [text.prompt_ids], rows=1)
        processors = LogitsProcessorList(made for _, made in named_processors(text.settings, scene))
        torch.manual_seed(text.settings.seed or 0)  # a processor may draw
        ids = [*text.prompt_ids, *text.new_ids]
        start = len(text.prompt_ids)
        scores = score_tokens(
            writer.model,
            ids,
            start=start,
            processors=processors or None,
            num_runners_up=num_runners_up,
        )
        explained.append(scored_pieces(writer.tokenizer, ids, scores))
    return explained
