"""A model with all that it needs to continue texts, as one value."""

from dataclasses import dataclass, field, replace
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from gptft.decoding.auxiliary_models import AuxiliaryModels
from gptft.decoding.constraints import read_vocabulary
from gptft.decoding.matchers import Vocabulary
from gptft.decoding.special_tokens import SpecialTokens, num_embeddings
from gptft.models.hub import find_model
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.precision import DtypeName, pick_device
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.chat_encoder import ChatEncoder, chat_encoder

# Architectures of transformers 5.23 whose text depends on padding before it, masked or not: they
# have no use for the mask, count positions without it, or lose it in `generate`; measured of each.
READ_PADDING = frozenset(
    {
        "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "blt", "deepseek_v32",
        "dots3_note_text", "git", "glm_moe_dsa", "hy_v4", "marian", "mbart", "mvp", "pegasus",
        "plbart", "prophetnet", "recurrent_gemma", "reformer", "rwkv", "trocr", "whisper", "xlm",
        "xlnet", "xlstm",
    }
)  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A model with all that it needs to continue texts.

    Attributes:
        model: in eval mode.
        tokenizer: its tokenizer.
        special: their special ids.
        auxiliary: the models that settings name.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    auxiliary: AuxiliaryModels = field(default_factory=AuxiliaryModels)

    @cached_property
    def chat_encoder(self) -> ChatEncoder:
        """What puts prompts into the tokenizer's chat template.

        Raises:
            ConfigError: it has none that can be used.
        """
        return chat_encoder(self.tokenizer)

    @property
    def takes_padding(self) -> bool:
        """Whether masked padding before a text changes nothing, for every model there is."""
        configs = [model.config for model in (self.model, *self.auxiliary.models.values())]
        texts = [config.get_text_config(decoder=True) for config in configs]
        return READ_PADDING.isdisjoint(config.model_type for config in (*configs, *texts))

    def in_conversation(self) -> "LoadedModel":
        """The same, whose texts also end where its chat template ends an answer."""
        known = num_embeddings(self.model)
        ends = [i for i in self.chat_encoder.answer_ends if i not in self.special.eos and i < known]
        special = replace(self.special, eos=(*self.special.eos, *ends))
        return replace(self, special=special)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of each token; read once, which takes a tenth of a second for 8,000."""
        return read_vocabulary(self.tokenizer, leave_out=self.special.eos)


def open_model(
    name: str, *, dtype: DtypeName = "auto", revision: str | None = None, use_cpu: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode and its tokenizer, without a progress bar or warnings.

    Raises:
        ModelError: it can't be found or read.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    files = find_model(name, revision=revision)
    tokenizer = load_auto_tokenizer(files)
    return load_for_inference(files, device=pick_device(use_cpu=use_cpu), dtype=dtype), tokenizer


def open_to_look_into(
    name: str, *, dtype: DtypeName = "auto", revision: str | None = None, use_cpu: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """As `open_model`, but an adapter that changes embeddings or head is merged, in float32.

    What it adds to them isn't in their weights otherwise.

    Raises:
        ModelError: it can't be found, read or merged.
    """
    model, tokenizer = open_model(name, dtype=dtype, revision=revision, use_cpu=use_cpu)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if all(type(end).__module__.split(".")[0] != "peft" for end in ends):
        return model, tokenizer
    merged = load_for_training(find_model(name, revision=revision))
    merged.to(model.device).eval()  # type: ignore[arg-type]
    return merged, tokenizer
