"""Settings and a batch of prompts -> what changes the logits at each step, in order and by name.

All are built here and none is left to `generate`, which would put its own after ours.
"""

from collections.abc import Collection

import torch

from gptft.decoding.define import BatchContext, Process
from gptft.decoding.settings import Settings
from gptft.decoding.strategies import active_processors


def named_processors(settings: Settings, batch: BatchContext) -> list[tuple[str, Process]]:
    """Everything that changes the logits, each with its setting's name, in order.

    Ids that the tokenizer has no token for are ruled out before anything else.

    Raises:
        ConfigError: an id or a text that the tokenizer doesn't have, a pattern that is none.
    """
    unknown = [("unknown_ids", without(batch.unknown_ids, device=batch.device))]
    return [
        *(unknown if batch.unknown_ids else []),
        *(
            (one.name, one.build(settings, batch))
            for one in active_processors(settings)
            if batch.eos or not one.needs_eos
        ),
    ]


def without(ids: Collection[int], *, device: str) -> Process:
    """A processor that rules ids out."""
    index = torch.tensor(sorted(ids), device=device)
    return lambda input_ids, scores: scores.index_fill(-1, index, -torch.inf)
