"""Plain values of a YAML file -> frozen sections: every setting, its type, default and meaning."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from gptft.config.data import DataConfig
from gptft.config.lora import LoraConfig
from gptft.config.name_patterns import check_pattern
from gptft.config.numbers import MAX_VOCAB_SIZE, as_whole
from gptft.config.section import (
    Name,
    Positive,
    Section,
    Weight,
    as_field,
    as_list,
    as_section_list,
    bare_with_weight_1,
    listed,
    setting,
)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Added = Annotated[list[Name], BeforeValidator(as_list)]
Patterns = Annotated[list[Annotated[Name, AfterValidator(check_pattern)]], BeforeValidator(as_list)]


class AveragedModel(Section):
    """A model, or those a glob matches, and how much their weights count in a mean."""

    name: Name = Field(
        description="pico, a model or run folder, a .gguf file, a hub id, or a glob of folders."
    )
    weight: Weight = setting(
        1.0, "How much each of them counts beside model.name, which counts as 1."
    )

    _short = model_serializer(mode="wrap")(bare_with_weight_1)


AveragedModels = Annotated[
    list[Annotated[AveragedModel, BeforeValidator(as_field("name"))]],
    BeforeValidator(as_section_list),
    WithJsonSchema(listed(AveragedModel)),
]


def is_for_training(name: str) -> bool:
    """Whether a field of a model's config changes nothing of what the trained model computes."""
    return "drop" in name or name in ("attn_implementation", "use_cache")


# Of heads that aren't trained here, and of whole layers, which is another thing than dropout.
_OTHER_DROPS = ("summary_", "classifier", "layerdrop", "layer_drop", "drop_path")


def is_dropout(name: str) -> bool:
    """Whether a field of a model's config is a rate of dropout.

    >>> is_dropout("attn_pdrop"), is_dropout("hidden_dropout_prob"), is_dropout("layerdrop")
    (True, True, False)
    """
    return "drop" in name and not any(word in name for word in _OTHER_DROPS)


class ModelConfig(Section):
    """The base model: one to start from, or the sizes of a new one."""

    name: Name = setting(
        "pico", "pico (bundled), a model folder, a run folder, a .gguf file, or a hub id."
    )
    revision: str | None = setting(
        None, "A branch, tag or commit of a model on the hub; owner/name@revision says it, too."
    )
    from_scratch: dict[str, Any] | None = setting(
        None, "A new model: model_type (gpt2, llama, ...) and any field of its config class."
    )
    freeze: Patterns = setting(
        [],
        "Weights that stay as they are: names of modules, or their ends, [wte, h.0-5] for the "
        "embeddings and the first six layers of a GPT-2.",
    )
    config_overrides: dict[str, Any] = setting(
        {}, "Fields of the loaded model's config to change, attn_pdrop: 0.1 for one."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["own"] = setting(
        0.0,
        "Dropout in training, in place of the model's own rates; own keeps them. Rates among "
        "config_overrides or from_scratch stay.",
    )
    average_with: AveragedModels = setting(
        [],
        "Models of the same shape, or globs of their folders (runs/my/checkpoints/*), "
        "each perhaps with a weight: training begins at the mean of all weights.",
    )
    dtype: Dtype = setting(
        "auto", "What weights are held in; auto is what the device computes well in."
    )
    save_dtype: Dtype = setting(
        "auto", "What the trained model is written in; auto is what it was trained in."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelConfig":
        if self.from_scratch is not None:
            if "name" in self.model_fields_set:
                raise ValueError("model.name and model.from_scratch can't both be given")
            if not isinstance(self.from_scratch.get("model_type"), str):
                raise ValueError("model.from_scratch needs a model_type, such as gpt2 or llama")
            if self.config_overrides:
                raise ValueError("model.from_scratch takes its sizes itself, not config_overrides")
            if self.freeze:
                raise ValueError(
                    "model.freeze and model.from_scratch can't both be given: a new model has "
                    "learned nothing that could be kept"
                )
            if self.average_with:
                raise ValueError("model.average_with needs a model.name, not model.from_scratch")
        return self


class TokenizerTrainConfig(Section):
    """A byte-level BPE tokenizer to be trained on the training part."""

    vocab_size: Annotated[int, Field(ge=257, le=MAX_VOCAB_SIZE), BeforeValidator(as_whole)] = Field(
        description="Ids in all: 256 bytes, one EOS, and the merges."
    )
    min_frequency: Positive = setting(2, "A pair of tokens seen fewer times is not merged.")


class TokenizerConfig(Section):
    """The tokenizer, where it isn't the base model's own."""

    name: str | None = setting(
        None,
        "A model whose tokenizer a model.from_scratch is to use; for a base, a longer one, whose "
        "first ids are the base's own.",
    )
    train: TokenizerTrainConfig | None = setting(None, "Train one for a model.from_scratch.")
    add_tokens: Added = setting(
        [],
        "Tokens to add, found in a text as they stand; their embeddings begin at the mean of "
        "the pieces that they replace.",
    )
    special_tokens: Added = setting([], "Control tokens to add, which no text is read as.")
    pad_to_multiple_of: Positive = setting(
        1,
        "Embeddings are made a multiple of it, such as 64, which some accelerators compute faster.",
    )

    @property
    def grows(self) -> bool:
        """Whether a tokenizer or a model's embeddings become larger."""
        return bool(self.add_tokens or self.special_tokens or self.pad_to_multiple_of > 1)

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerConfig":
        if self.name is not None and self.train is not None:
            raise ValueError("tokenizer.name and tokenizer.train can't both be given")
        if self.train is not None and self.grows:
            raise ValueError(
                "tokenizer.train makes a tokenizer of tokenizer.train.vocab_size ids, to which "
                "nothing is added. Train it by itself, with gptft tokenizer train, and give its "
                "folder as tokenizer.name"
            )
        return self


class SamplesConfig(Section):
    """Prompts continued by the model before, during and after training."""

    prompts: Annotated[list[str], BeforeValidator(as_list)] = setting(
        [], "The same prompts each time."
    )
    steps: Positive | None = setting(None, "Also every so many steps, not only before and after.")
    recite: Annotated[bool | Positive | None, Field(union_mode="left_to_right")] = setting(
        None,
        "Have the model recite the training text, given its first line, before and after: so many "
        "documents, or true for all of a small text.",
    )

    @model_validator(mode="after")
    def _something_to_continue(self) -> "SamplesConfig":
        if self.steps is not None and not self.prompts:
            raise ValueError("samples.steps has no effect without samples.prompts; set them")
        return self


class Config(Section):
    """A complete config file."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    lora: LoraConfig | None = setting(
        None,
        "Train an adapter, a small part beside each weight, and leave the weights as they are.",
    )
    data: DataConfig | None = None
    training: dict[str, Any] = setting({}, "Any field of transformers.TrainingArguments.")
    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    generation: dict[str, Any] = setting({}, "How text is written: a strategy and its settings.")
    strategies: dict[Name, dict[str, Any]] = setting(
        {}, "Strategies of your own, by name: what generation holds, for each."
    )

    @model_validator(mode="after")
    def _tokenizer_fits(self) -> "Config":
        named = self.tokenizer.name is not None or self.tokenizer.train is not None
        if self.model.from_scratch is None and self.tokenizer.train is not None:
            raise ValueError(
                "tokenizer.train is for model.from_scratch; a base keeps its own tokenizer, to "
                "which tokenizer.add_tokens adds"
            )
        if self.model.from_scratch is not None and not named:
            raise ValueError("model.from_scratch needs tokenizer.name or tokenizer.train")
        if self.model.from_scratch is not None and self.lora is not None:
            raise ValueError(
                "lora and model.from_scratch can't both be given: an adapter changes a model that "
                "has learned something"
            )
        if self.model.freeze and self.lora is not None:
            raise ValueError(
                "lora and model.freeze can't both be given: an adapter leaves its whole base as it "
                "is. Which layers get one is said by lora.layers and lora.target_modules"
            )
        if self.lora is not None and not self.lora.merge:
            self._check_unmerged()
        if self.model.average_with and self.lora is not None:
            raise ValueError(
                "lora and model.average_with can't both be given: an adapter names its base, and a "
                "mean of models is in no folder. Train on the mean first"
            )
        return self

    def _check_unmerged(self) -> None:
        """Refuse what an adapter alone can't hold."""
        if "save_dtype" in self.model.model_fields_set:
            raise ValueError(
                "model.save_dtype is of model/, and lora.merge: false writes none. Leave one out"
            )
        changed = [name for name in self.model.config_overrides if not is_for_training(name)]
        if changed:
            raise ValueError(
                f"model.config_overrides changes {changed[0]} of the base, and with lora.merge: "
                "false the adapter would be used with the base as it is. Leave one out"
            )

    def resolved(self) -> dict[str, Any]:
        """The config as plain values that load again, without secrets and without what is unset."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.model.from_scratch is not None:
            del values["model"]["name"]
        if self.lora is not None and not self.lora.merge:  # a default, where it can't be set
            del values["model"]["save_dtype"]
        if self.data is not None and self.data.template is not None:
            del values["data"]["text_field"]
        values["training"].pop("hub_token", None)
        return values
