"""A model that writes, with all that goes with it.

In: a loaded model and its tokenizer. Out: one value that is handed from step to step.
"""

from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding.constraints import Vocabulary, read_vocabulary
from gptft.decoding.others import Others
from gptft.decoding.special import SpecialTokens


@dataclass(frozen=True)
class Writer:
    """A model that writes, with all that goes with it.

    Attributes:
        model: in eval mode.
        tokenizer: its tokenizer.
        special: their special ids.
        others: the models that settings name.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    others: Others = field(default_factory=Others)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each token spells; read once, which takes a tenth of a second for 8,000."""
        return read_vocabulary(self.tokenizer, leave_out=self.special.eos)
