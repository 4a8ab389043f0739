"""Plain values of a YAML file -> frozen sections: every setting, its type, default and meaning."""

from collections.abc import Callable
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from gptft.config.lora import LoraConfig
from gptft.config.numbers import LARGEST_WHOLE, MAX_BLOCK_SIZE, MAX_SEED, MAX_VOCAB_SIZE, as_whole
from gptft.config.section import Section
from gptft.config.section import setting as _setting


def _as_list(value: Any) -> Any:
    """A single string stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _as_section_list(value: Any) -> Any:
    """A single string or mapping stands for a list of one."""
    return [value] if isinstance(value, str | dict) else value


def _as_field(name: str) -> Callable[[Any], Any]:
    """A string alone stands for a mapping that sets this one field."""
    return lambda value: {name: value} if isinstance(value, str) else value


def _bare_with_weight_1(self: Any, dump: SerializerFunctionWrapHandler) -> Any:
    """A section of one field and a weight, written as that field alone where the weight is 1."""
    values = dump(self)
    (field,) = values.keys() - {"weight"}
    return values[field] if self.weight == 1.0 else values


def _listed(section: type[Section]) -> dict[str, Any]:
    """The JSON Schema of a list of such sections or strings, or of one without its list."""
    one = [{"type": "string"}, section.model_json_schema(mode="validation")]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}]}


def _known_encoding(value: str) -> str:
    """A name Python decodes text by."""
    if value != "auto":
        try:
            "".encode(value)
        except (LookupError, ValueError):
            raise ValueError(
                f"data.encoding must be auto, utf-8 or another text encoding, not {value!r}"
            ) from None
    return value


def _known_template(value: str) -> str:
    """A template with fields by name and nothing else between its braces."""
    try:
        parts = list(Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"data.template is not a template: {error}") from None
    names = [part[1] for part in parts if part[1] is not None]
    for _, name, spec, conversion in parts:
        if name is not None and (not name or spec or conversion):
            raise ValueError(
                f"data.template may hold names in braces only, such as {{title}}, not "
                f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
            )
    if not names:
        raise ValueError("data.template names no field; write {text}, say")
    return value


def _regular_expression(value: str) -> str:
    """A pattern that Python's `re` takes."""
    from gptft.text.patterns import compile_like_re  # few configs have one

    try:
        compile_like_re(value)
    except ValueError as error:
        raise ValueError(f"data.document_heading is not a regular expression: {error}") from None
    return value


Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Name], BeforeValidator(_as_list), Field(min_length=1)]
Added = Annotated[list[Name], BeforeValidator(_as_list)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1, le=LARGEST_WHOLE), BeforeValidator(as_whole)]
BlockSize = Annotated[int, Field(ge=2, le=MAX_BLOCK_SIZE), BeforeValidator(as_whole)]
Weight = Annotated[float, Field(gt=0.0, le=1000.0, allow_inf_nan=False)]


class AveragedModel(Section):
    """A model, or those a glob matches, and how much their weights count in a mean."""

    name: Name = Field(
        description="pico, a model or run folder, a .gguf file, a hub id, or a glob of folders."
    )
    weight: Weight = _setting(
        1.0, "How much each of them counts beside model.name, which counts as 1."
    )

    _short = model_serializer(mode="wrap")(_bare_with_weight_1)


AveragedModels = Annotated[
    list[Annotated[AveragedModel, BeforeValidator(_as_field("name"))]],
    BeforeValidator(_as_section_list),
    WithJsonSchema(_listed(AveragedModel)),
]


class ModelConfig(Section):
    """The base model: one to start from, or the sizes of a new one."""

    name: Name = _setting(
        "pico", "pico (bundled), a model folder, a run folder, a .gguf file, or a hub id."
    )
    revision: str | None = _setting(
        None, "A branch, tag or commit of a model on the hub; owner/name@revision says it, too."
    )
    from_scratch: dict[str, Any] | None = _setting(
        None, "A new model: model_type (gpt2, llama, ...) and any field of its config class."
    )
    config_overrides: dict[str, Any] = _setting(
        {}, "Fields of the loaded model's config to change, resid_pdrop: 0.0 for one."
    )
    average_with: AveragedModels = _setting(
        [],
        "Models of the same shape, or globs of their folders (runs/my/checkpoints/*), "
        "each perhaps with a weight: training begins at the mean of all weights.",
    )
    dtype: Dtype = _setting(
        "auto", "What weights are held in; auto is what the device computes well in."
    )
    save_dtype: Dtype = _setting(
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
            if self.average_with:
                raise ValueError("model.average_with needs a model.name, not model.from_scratch")
        return self


class TokenizerTrainConfig(Section):
    """A byte-level BPE tokenizer to be trained on the training part."""

    vocab_size: Annotated[int, Field(ge=257, le=MAX_VOCAB_SIZE), BeforeValidator(as_whole)] = Field(
        description="Ids in all: 256 bytes, one EOS, and the merges."
    )
    min_frequency: Positive = _setting(2, "A pair of tokens seen fewer times is not merged.")


class TokenizerConfig(Section):
    """The tokenizer, where it isn't the base model's own."""

    name: str | None = _setting(
        None,
        "A model whose tokenizer a model.from_scratch is to use; for a base, a longer one, whose "
        "first ids are the base's own.",
    )
    train: TokenizerTrainConfig | None = _setting(None, "Train one for a model.from_scratch.")
    add_tokens: Added = _setting(
        [],
        "Tokens to add, found in a text as they stand; their embeddings begin at the mean of "
        "the pieces that they replace.",
    )
    special_tokens: Added = _setting([], "Control tokens to add, which no text is read as.")
    pad_to_multiple_of: Positive = _setting(
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


class TextSource(Section):
    """One source of texts, and how often each of its documents is to be seen."""

    path: Name = Field(
        description="A file, a folder, a glob, or hub:NAME[:config][:split] for a dataset."
    )
    weight: Weight = _setting(
        1.0,
        "How often its training documents stand in the blocks: 2 for twice, 0.5 for "
        "half of them, drawn by data.seed.",
    )

    _short = model_serializer(mode="wrap")(_bare_with_weight_1)


Sources = Annotated[
    list[Annotated[TextSource, BeforeValidator(_as_field("path"))]],
    BeforeValidator(_as_section_list),
    Field(min_length=1),
    WithJsonSchema(_listed(TextSource)),
]


class DataConfig(Section):
    """The texts, and how they become blocks."""

    train: Sources = Field(
        description="A text file, a folder, a glob, hub:NAME, or a list of them, each perhaps with "
        "a weight."
    )
    validation: Annotated[Fraction | Texts | None, Field(union_mode="left_to_right")] = _setting(
        None, "Held out: a share of the documents (0.1), or files of their own."
    )
    exclude: Annotated[list[str], BeforeValidator(_as_list)] = _setting(
        [], "Globs of file names or paths to leave out."
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = _setting(
        "auto",
        "auto takes UTF-8, UTF-16 and what it can recognise, and says which; utf-8 "
        "refuses anything else; a codec's name (windows-1251) reads every file as that.",
    )
    line_ends: Literal["keep", "lf"] = _setting(
        "keep", "lf turns CR LF and CR into LF; keep leaves them."
    )
    text_field: Name = _setting(
        "text", "The field or column of JSON, CSV and Parquet records that holds the text."
    )
    template: Annotated[str, AfterValidator(_known_template)] | None = _setting(
        None, "Fields of a record put together, such as '{title}\\n{body}', instead of text_field."
    )
    streaming: bool = _setting(
        False, "Read hub: datasets as a stream, without downloading them first."
    )
    document_separator: Name | None = _setting(
        None, "The text between two documents of one file; without it a file is a document."
    )
    document_heading: Annotated[Name, AfterValidator(_regular_expression)] | None = _setting(
        None,
        "A regular expression: in a text file, a line that it matches whole, below a "
        "blank line, begins a document, and stays in it.",
    )
    block_size: BlockSize | None = _setting(
        None, "Tokens a block; 1,024, or the model's context where that is shorter."
    )
    tail: Literal["keep", "drop"] = _setting(
        "keep", "The last, shorter block: trained on, or left out."
    )
    add_bos: bool | Literal["auto"] = _setting(
        "auto",
        "Begin each document with BOS; auto does what the tokenizer's own template does.",
    )
    isolate_documents: bool | Literal["auto"] = _setting(
        False,
        "Keep the documents of a block from seeing each other; auto does where the model can.",
    )
    shift_blocks: bool = _setting(
        True,
        "Cut the training text elsewhere in each epoch, so that it isn't learned by "
        "its place in a block; the first epoch's blocks are those of the store.",
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(as_whole)] = _setting(
        42, "Draws the documents of a validation share and of weights."
    )

    @model_validator(mode="after")
    def _one_way_to_read_a_text(self) -> "DataConfig":
        if self.template is not None and "text_field" in self.model_fields_set:
            raise ValueError("data.template and data.text_field can't both be given")
        if self.document_separator is not None and self.document_heading is not None:
            raise ValueError(
                "data.document_separator and data.document_heading can't both be given"
            )
        return self

    @property
    def train_names(self) -> str:
        """The training sources as a message names them."""
        return ", ".join(source.path for source in self.train)


class SamplesConfig(Section):
    """Prompts continued by the model before, during and after training."""

    prompts: Annotated[list[str], BeforeValidator(_as_list)] = _setting(
        [], "The same prompts each time."
    )
    steps: Positive | None = _setting(None, "Also every so many steps, not only before and after.")
    recite: Annotated[bool | Positive | None, Field(union_mode="left_to_right")] = _setting(
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
    lora: LoraConfig | None = _setting(
        None,
        "Train an adapter, a small part beside each weight, and leave the weights as they are.",
    )
    data: DataConfig | None = None
    training: dict[str, Any] = _setting({}, "Any field of transformers.TrainingArguments.")
    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    generation: dict[str, Any] = _setting({}, "How text is written: a strategy and its settings.")
    strategies: dict[Name, dict[str, Any]] = _setting(
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
        if self.model.average_with and self.lora is not None:
            raise ValueError(
                "lora and model.average_with can't both be given: an adapter names its base, and a "
                "mean of models is in no folder. Train on the mean first"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """The config as plain values that load again, without secrets and without what is unset."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.model.from_scratch is not None:
            del values["model"]["name"]
        values["training"].pop("hub_token", None)
        return values
