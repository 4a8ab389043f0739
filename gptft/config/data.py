"""The section `data` of a config: the texts, and how they become blocks."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from gptft.config.numbers import MAX_BLOCK_SIZE, MAX_SEED, as_whole
from gptft.config.section import (
    Name,
    Section,
    Texts,
    Weight,
    as_field,
    as_list,
    as_section_list,
    bare_with_weight_1,
    listed,
    setting,
)


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


Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
BlockSize = Annotated[int, Field(ge=2, le=MAX_BLOCK_SIZE), BeforeValidator(as_whole)]


class TextSource(Section):
    """One source of texts, and how often each of its documents is to be seen."""

    path: Name = Field(
        description="A file, a folder, a glob, or hub:NAME[:config][:split] for a dataset."
    )
    weight: Weight = setting(
        1.0,
        "How often its training documents stand in the blocks: 2 for twice, 0.5 for "
        "half of them, drawn by data.seed.",
    )

    _short = model_serializer(mode="wrap")(bare_with_weight_1)


Sources = Annotated[
    list[Annotated[TextSource, BeforeValidator(as_field("path"))]],
    BeforeValidator(as_section_list),
    Field(min_length=1),
    WithJsonSchema(listed(TextSource)),
]


class DataConfig(Section):
    """The texts, and how they become blocks."""

    train: Sources = Field(
        description="A text file, a folder, a glob, hub:NAME, or a list of them, each perhaps with "
        "a weight."
    )
    validation: Annotated[Fraction | Texts | None, Field(union_mode="left_to_right")] = setting(
        None, "Held out: a share of the documents (0.1), or files of their own."
    )
    exclude: Annotated[list[str], BeforeValidator(as_list)] = setting(
        [], "Globs of file names or paths to leave out."
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = setting(
        "auto",
        "auto takes UTF-8, UTF-16 and what it can recognise, and says which; utf-8 "
        "refuses anything else; a codec's name (windows-1251) reads every file as that.",
    )
    line_ends: Literal["keep", "lf"] = setting(
        "keep", "lf turns CR LF and CR into LF; keep leaves them."
    )
    format: Literal["auto", "text", "messages", "prompt_completion"] = setting(
        "auto",
        "What a record is: text, a conversation (messages), or a prompt with its completion; auto "
        "goes by the names of its fields.",
    )
    chat_template: Name | None = setting(
        None,
        "How a conversation is written: chatml, llama3, mistral, plain, or a file in Jinja; the "
        "model's own, or plain, without it.",
    )
    loss_on: Literal["all", "answers"] | None = setting(
        None,
        "Which tokens of a conversation are learned: answers and their ends alone, which is the "
        "default, or all. Of plain text it is all.",
    )
    text_field: Name = setting(
        "text", "The field or column of JSON, CSV and Parquet records that holds the text."
    )
    template: Annotated[str, AfterValidator(_known_template)] | None = setting(
        None, "Fields of a record put together, such as '{title}\\n{body}', instead of text_field."
    )
    streaming: bool = setting(
        False, "Read hub: datasets as a stream, without downloading them first."
    )
    document_separator: Name | None = setting(
        None, "The text between two documents of one file; without it a file is a document."
    )
    document_heading: Annotated[Name, AfterValidator(_regular_expression)] | None = setting(
        None,
        "A regular expression: in a text file, a line that it matches whole, below a "
        "blank line, begins a document, and stays in it.",
    )
    block_size: BlockSize | None = setting(
        None, "Tokens a block; 1,024, or the model's context where that is shorter."
    )
    tail: Literal["keep", "drop"] = setting(
        "keep", "The last, shorter block: trained on, or left out."
    )
    add_bos: bool | Literal["auto"] = setting(
        "auto",
        "Begin each document with BOS; auto does what the tokenizer's own template does.",
    )
    packing: Literal["auto", "stream", "best_fit"] = setting(
        "auto",
        "stream cuts the documents, one after another, into blocks; best_fit puts whole documents "
        "into the blocks that they fill best, with padding at the end; auto takes stream for "
        "text and best_fit for conversations.",
    )
    long_documents: Literal["split", "refuse"] = setting(
        "split",
        "By best_fit, documents longer than a block: split into full blocks and a rest, or an "
        "error.",
    )
    isolate_documents: bool | Literal["auto"] | None = setting(
        None,
        "Keep the documents of a block from seeing each other; auto does where the model can. "
        "Left out, it is false by data.packing: stream and auto by best_fit.",
    )
    shift_blocks: bool | None = setting(
        None,
        "Cut the training text elsewhere in each epoch, so that it isn't learned by its place in a "
        "block; the first epoch's blocks are those of the store. Left out, it is true by "
        "data.packing: stream; best_fit has nothing to cut.",
    )
    shuffle_documents: bool = setting(
        False,
        "Put the documents into another order in each epoch and cut the blocks from that; it takes "
        "the place of shift_blocks. By data.packing: best_fit blocks hold whole documents anyhow.",
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(as_whole)] = setting(
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

    @model_validator(mode="after")
    def _conversations_or_text(self) -> "DataConfig":
        if self.format == "text":
            for name in ("chat_template", "loss_on"):
                if getattr(self, name) not in (None, "all"):
                    raise ValueError(f"data.{name} is for conversations, and data.format is text")
        elif self.format != "auto":
            for name, default in (("template", None), ("text_field", "text")):
                if getattr(self, name) != default:
                    raise ValueError(
                        f"data.{name} makes a text of a record, and data.format is {self.format}"
                    )
        return self

    @model_validator(mode="after")
    def _only_best_fit_refuses(self) -> "DataConfig":
        if self.long_documents == "refuse" and self.packing == "stream":
            raise ValueError(
                "data.long_documents: refuse has no effect by data.packing: stream, which cuts any "
                "document; use data.packing: best_fit"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_cut_anew(self) -> "DataConfig":
        if self.shuffle_documents and self.packing == "best_fit":
            raise ValueError(
                "data.shuffle_documents has no effect by data.packing: best_fit, whose blocks hold "
                "whole documents and are drawn in another order in each epoch anyhow; leave it out"
            )
        if self.shuffle_documents and self.shift_blocks:
            raise ValueError(
                "data.shift_blocks has no effect with data.shuffle_documents, which cuts each "
                "epoch's blocks elsewhere, too; leave it out"
            )
        return self

    def shifts(self, packing: str) -> bool:
        """Whether each epoch cuts the text elsewhere, by `stream` or `best_fit`."""
        return packing == "stream" and self.shift_blocks is not False and not self.shuffle_documents

    def shuffles(self, packing: str) -> bool:
        """Whether each epoch has the documents in another order, by `stream` or `best_fit`."""
        return packing == "stream" and self.shuffle_documents

    def isolation(self, packing: str) -> bool | Literal["auto"]:
        """Whether documents are to be kept from seeing each other, where they are packed so.

        Args:
            packing: what is in force, `stream` or `best_fit`.
        """
        if self.isolate_documents is not None:
            return self.isolate_documents
        return "auto" if packing == "best_fit" else False

    @property
    def holds_conversations(self) -> bool:
        """Whether records are conversations, or prompts with their completions."""
        return self.format in ("messages", "prompt_completion")

    @property
    def train_names(self) -> str:
        """The training sources as a message names them."""
        return ", ".join(source.path for source in self.train)
