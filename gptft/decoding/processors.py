"""Settings and a batch of prompts -> what changes the logits at each step, in order and by name.

All are built here and none is left to `generate`, which would put its own after ours.
"""

from gptft.decoding.define import BatchContext, Process
from gptft.decoding.settings import Settings
from gptft.decoding.strategies import active_processors


def named_processors(settings: Settings, batch: BatchContext) -> list[tuple[str, Process]]:
    """Everything that changes the logits, each with its setting's name, in order.

    Raises:
        ConfigError: an id or a text that the tokenizer doesn't have, a pattern that is none.
    """
    return [
        (one.name, one.build(settings, batch))
        for one in active_processors(settings)
        if batch.eos or not one.needs_eos
    ]
