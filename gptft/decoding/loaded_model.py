"""A model with all that it needs to continue texts, as one value."""

from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.constraints import Vocabulary, read_vocabulary
from gptft.decoding.special_tokens import SpecialTokens


@dataclass(frozen=True)
class LoadedModel:
    """A model with all that it needs to continue texts.

    Attributes:
        model: in eval mode.
        tokenizer: its tokenizer.
        special: their special ids.
        others: the auxiliary models that settings name.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    others: AuxiliaryModels = field(default_factory=AuxiliaryModels)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of each token; read once, which takes a tenth of a second for 8,000."""
        return read_vocabulary(self.tokenizer, leave_out=self.special.eos)
