"""A config -> a packing plan, checked before any text is read, and its block store's address."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptft.config.data import DataConfig
from gptft.config.sections import Config, TokenizerTrainConfig
from gptft.documents.formats.registry import format_of
from gptft.documents.record_format import FoundFormat, find_format
from gptft.documents.scan import ScannedText
from gptft.documents.sources import VALIDATION, FoundTexts, find_texts
from gptft.errors import ConfigError, ModelError
from gptft.files import default_cache_dir, json_checksum
from gptft.models.model_files import context_length
from gptft.text.streams import content_suffix
from gptft.tokenization.chat_format import ChatFormat, resolve_chat
from gptft.tokenization.framing import begins_each
from gptft.tokenization.grown import grown_tokenizer, named_tokenizer, with_added
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

DEFAULT_BLOCK_SIZE = 1024
NO_DATA = "There is no data section. Set data.train to a text file or folder."
_FORMAT = 2  # of the store; part of its address, so that an older gptft's store is never misread


@dataclass(frozen=True)
class PackingPlan:
    """What decides a block store, the texts aside.

    Attributes:
        data: the config's data section.
        tokenizer: the model's, beginning texts as `data.add_bos` says; None to train one on the
            training split, as `tokenizer_train` says.
        tokenizer_train: settings of the tokenizer to train.
        context: the most tokens the model can see, where known.
        num_embeddings: the ids the model knows, where known.
        cache_dir: where stores live.
        chat: how conversations are written and learned; None where documents are texts.
        said: sentences on how the format of the texts was found.
        found: the texts that `data` names, where they were looked for already; see `texts`.
        is_masked: whether the documents are conversations, whose ids are marked as trained on or
            not; see `gptft.data.marked_ids`.
    """

    data: DataConfig
    tokenizer: TextTokenizer | None
    tokenizer_train: TokenizerTrainConfig | None
    context: int | None
    cache_dir: Path
    num_embeddings: int | None = None
    is_masked: bool = False
    chat: ChatFormat | None = None
    said: tuple[str, ...] = ()
    found: FoundTexts | None = None

    def texts(self) -> FoundTexts:
        """The texts that `data` names.

        Raises:
            DataError: as `find_texts`.
        """
        return self.found or find_texts(self.data)

    @property
    def template(self) -> str | None:
        """The chat template that conversations are written by; None where there is none."""
        return None if self.chat is None else self.chat.template

    @property
    def packing(self) -> Literal["stream", "best_fit"]:
        """How documents become blocks, as `data.packing` says."""
        if self.data.packing != "auto":
            return self.data.packing
        return "best_fit" if self.is_masked else "stream"

    @property
    def isolation(self) -> bool | Literal["auto"]:
        """Whether documents are to be kept from seeing each other, as the config says."""
        return self.data.isolation(self.packing)

    @property
    def block_size(self) -> int:
        """Tokens a block."""
        return choose_block_size(self.data.block_size, context=self.context)

    @property
    def bos(self) -> tuple[int, ...]:
        """The ids that begin a document, as `data.add_bos` says; a template writes its own."""
        if self.template is not None:
            return ()
        return self.tokenizer.framing.before if self.tokenizer else ()

    @property
    def begins_each(self) -> bool:
        """Whether they begin every document, or the first of each split alone."""
        eos = self.tokenizer.require_eos() if self.tokenizer else -1
        # By best_fit the document before is any: its EOS is no BOS of this one.
        apart = self.isolation is True or self.packing == "best_fit"
        return begins_each(self.bos, eos_token_id=eos, isolated=apart)

    @property
    def tokenizer_key(self) -> str:
        """What decides the ids."""
        if self.tokenizer is not None:
            return self.tokenizer.digest
        settings = self.tokenizer_train.model_dump_json() if self.tokenizer_train else ""
        return f"{settings} {self.context or self.block_size}"  # a trained one is told its context

    def check(self) -> None:
        """Refuse what can't be made, before any text is read.

        Raises:
            ConfigError: the block size is beyond the model's context, there is no tokenizer, or a
                setting has no effect.
            ModelError: the tokenizer has no EOS, or one that its model doesn't know.
        """
        _ = self.block_size
        if self.data.long_documents == "refuse" and self.packing == "stream":
            raise ConfigError(
                "data.long_documents is 'refuse', which has no effect by data.packing: stream, and "
                "that is what auto takes for text. Use data.packing: best_fit."
            )
        if self.tokenizer is None and self.tokenizer_train is None:
            raise ConfigError("Name a model with a tokenizer, or set tokenizer.train.")
        if self.tokenizer is None and self.data.add_bos is True:
            raise ConfigError(
                "data.add_bos is true, and a tokenizer made by tokenizer.train has no BOS token. "
                "Use auto or false."
            )
        if self.tokenizer is not None:
            self.check_id(max(self.tokenizer.require_eos(), *self.bos, 0))

    def check_id(self, highest: int) -> None:
        """Refuse an id that the model has no embedding for.

        Raises:
            ModelError: there is one.
        """
        if self.tokenizer and self.num_embeddings is not None and highest >= self.num_embeddings:
            token = self.tokenizer.backend.id_to_token(highest)
            raise ModelError(
                f"{self.tokenizer.name}: its tokenizer gives id {highest:,} ({token!r}), and its "
                f"config.json says vocab_size {self.num_embeddings:,}. The tokenizer belongs to "
                "another model, or tokens were added without resizing the embeddings."
            )


def choose_block_size(asked: int | None, *, context: int | None) -> int:
    """The block size in force: as asked, else 1,024, and never beyond the model's context.

    Raises:
        ConfigError: more was asked for than the model can see at once.

    >>> choose_block_size(None, context=512), choose_block_size(None, context=2048)
    (512, 1024)
    """
    if asked is None:
        return min(DEFAULT_BLOCK_SIZE, context or DEFAULT_BLOCK_SIZE)
    if context is not None and asked > context:
        raise ConfigError(
            f"data.block_size is {asked:,}, more than the model's context of {context:,} tokens. "
            f"Use data.block_size: {context} or less."
        )
    return asked


def plan_packing(config: Config, *, found: FoundFormat | None = None) -> PackingPlan:
    """The packing plan of a whole config: its tokenizer, or the one it says to train.

    Args:
        config: with a data section.
        found: what its records are; looked for where that isn't given.

    Raises:
        ConfigError: there is no data section; its chat template can't be used; and as
            `PackingPlan.check`.
        DataError: the texts can't be found, or are of several kinds.
        ModelError: the tokenizer can't be opened.
    """
    if config.data is None:
        raise ConfigError(NO_DATA)
    texts = None
    if found is None:
        texts = find_texts(config.data)
        found = find_format(texts, config.data)
    data = config.data.model_copy(update={"format": found.format})
    model, tokenizer, num_embeddings = config.model, None, None
    if model.from_scratch is None:
        tokenizer = load_tokenizer(
            model.name, revision=model.revision, config_overrides=model.config_overrides
        )
        context, base = tokenizer.context, tokenizer
        tokenizer = grown_tokenizer(base, config.tokenizer)
        num_embeddings = base.num_embeddings if tokenizer is base else None
    else:
        context = context_length(model.from_scratch)
        if config.tokenizer.name is not None:
            tokenizer = with_added(named_tokenizer(config.tokenizer.name), config.tokenizer)
    if tokenizer is not None:
        tokenizer = tokenizer.with_bos(config.data.add_bos)
    chat, said = None, tuple(filter(None, [found.said]))
    if found.format != "text":
        chat, tokenizer = resolve_chat(config, found.format, tokenizer, is_plain=found.is_plain)
        num_embeddings = None if chat.added_tokens else num_embeddings
        said += chat.said
    elif problem := _only_of_conversations(data):
        raise ConfigError(problem)
    plan = PackingPlan(
        data, tokenizer, config.tokenizer.train, context, default_cache_dir(), num_embeddings,
        is_masked=chat is not None, chat=chat, said=said, found=texts,
    )  # fmt: skip
    plan.check()
    return plan


def _only_of_conversations(data: DataConfig) -> str | None:
    """What to say of a setting for conversations where the texts hold none."""
    given = {"chat_template": data.chat_template, "loss_on": data.loss_on}
    for name, value in given.items():
        if value not in (None, "all"):
            return (
                f"data.{name} is {value}, and the texts aren't conversations: their records have "
                "no field messages, conversations, or prompt and completion. Leave it out, or name "
                "other texts."
            )
    return None


def store_path(plan: PackingPlan, texts: Sequence[ScannedText]) -> Path:
    """The folder of a store: named by SHA-256 over all that decides its content."""
    data = plan.data
    drawn = isinstance(data.validation, float)
    weights = [source.weight for source in data.train]
    numbers = [text.source.number for text in texts]
    content = {
        "format": _FORMAT,
        "texts": [[t.source.number == VALIDATION, t.facts.digest, *reading_of(t)] for t in texts],
        "reading": how_read(data),
        "tokenizer": plan.tokenizer_key,
        "block_size": plan.block_size,
        "tail": data.tail,
        "validation": data.validation if drawn else None,
        "weights": [[n, weights[n]] for n in numbers] if set(weights) != {1.0} else None,
        "seed": data.seed if drawn or set(weights) != {1.0} else None,
    }
    # The rest is named only where there is any, so that stores made before are still found.
    if plan.packing != "stream":
        content["packing"] = plan.packing
    if plan.is_masked:
        content["masked"] = True
    if plan.chat is not None:
        content["chat"] = plan.chat.key
    if plan.bos:
        content["bos"] = [*plan.bos, "each" if plan.begins_each else "first"]
    return plan.cache_dir / "blocks" / json_checksum(content)[:32]


def reading_of(text: ScannedText) -> tuple[str | int, ...]:
    """What of a file, besides its bytes, decides the text that is read from it."""
    path = text.source.path
    suffix = content_suffix(path) if path is not None else ""
    return text.facts.encoding, suffix, *format_version(path)


def format_version(path: Path | None) -> tuple[int, ...]:
    """The version of a file's format; none for a dataset of the hub, and none for version 1."""
    version = 1 if path is None else format_of(path).version
    # Named only where it isn't 1, so that stores made before formats had one are still found.
    return () if version == 1 else (version,)


def how_read(data: DataConfig) -> list[str | None]:
    """The settings that decide which documents a text gives."""
    read = [data.document_separator, data.line_ends, data.text_field, data.template]
    # Named only where it is set, so that stores made before it existed are still found.
    return read if data.document_heading is None else [*read, data.document_heading]
