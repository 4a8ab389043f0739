"""A model's config and tokenizer -> what settings are held to before the model is loaded."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from gptft.errors import ConfigError

if TYPE_CHECKING:
    from gptft.decoding.matchers import Vocabulary
    from gptft.tokenization.tokenizer import TextTokenizer


class ModelIds(ABC):
    """The ids that a model knows and its tokenizer gives, whether or not the model is loaded."""

    @property
    @abstractmethod
    def vocab_size(self) -> int | None:
        """The ids the model has embeddings for, where that is known."""

    @property
    @abstractmethod
    def unknown_ids(self) -> Collection[int]:
        """Ids that the model has embeddings for and the tokenizer no token."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text as it is, with nothing before or after it."""

    def known_ids(self, ids: list[int], setting: str) -> list[int]:
        """The same ids.

        Raises:
            ConfigError: the model has no embedding for one of them, or the tokenizer no token.
        """
        if unknown := {*self.checked_ids(ids, setting)}.intersection(self.unknown_ids):
            raise ConfigError(f"{setting}: the tokenizer has no token of id {min(unknown):,}.")
        return ids

    def checked_ids(self, ids: list[int], setting: str) -> list[int]:
        """The same ids.

        Raises:
            ConfigError: the model has no embedding for one of them.
        """
        if self.vocab_size is not None and max(ids, default=0) >= self.vocab_size:
            raise ConfigError(
                f"{setting}: there is no id {max(ids):,}; the model's go up to "
                f"{self.vocab_size - 1:,}."
            )
        return ids


@dataclass(frozen=True)
class KnownModel(ModelIds):
    """A model that isn't loaded, and the prompts it is to continue.

    Attributes:
        name: what a person calls it.
        tokenizer: its tokenizer.
        num_embeddings: the ids it knows, where known.
        num_layers: of its decoder, where known.
        context: the most tokens it can see at once, where there is a limit.
        prompt_lengths: tokens of each prompt.
        auxiliary: the models that settings name, by setting.
    """

    name: str
    tokenizer: "TextTokenizer"
    num_embeddings: int | None
    num_layers: int | None
    context: int | None
    prompt_lengths: Sequence[int] = ()
    auxiliary: Mapping[str, "KnownModel"] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int | None:
        """The ids the model has embeddings for, where that is known."""
        return self.num_embeddings

    @cached_property
    def unknown_ids(self) -> Collection[int]:
        """Ids that the model has embeddings for and the tokenizer no token."""
        return {*range(self.num_embeddings or 0)} - {*self.tokenizer.backend.get_vocab().values()}

    def encode(self, text: str) -> list[int]:
        """The ids of a text as it is, with nothing before or after it."""
        with self.tokenizer.explained():
            return list(self.tokenizer.backend.encode(text, add_special_tokens=False).ids)

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a text with what the tokenizer puts before it; as `encoding.encode_prompt`."""
        return [*self.tokenizer.framing.before, *self.encode(text)]

    def length_problems(self, setting: str, *, max_new_tokens: int) -> Iterator[str]:
        """Why the model that a setting names, if it does, can't read the prompts and the text."""
        from gptft.decoding.limits import check_other_context

        if setting in self.auxiliary and self.prompt_lengths:
            longest, context = max(self.prompt_lengths), self.auxiliary[setting].context
            check = partial(check_other_context, setting, longest, num_read=max_new_tokens - 1)
            yield from problems(partial(check, context=context))

    def token_problems(self, setting: str) -> Iterator[str]:
        """Why the logits of the model that a setting names can't be compared with this one's."""
        from gptft.decoding.limits import other_tokenizer, other_vocabulary

        if (other := self.auxiliary.get(setting)) is None:
            return
        ours, theirs = (model.tokenizer.backend.get_vocab() for model in (self, other))
        if theirs != ours:
            yield other_tokenizer(setting, other.name, theirs=len(theirs), ours=len(ours))
        elif other.vocab_size and self.vocab_size and other.vocab_size != self.vocab_size:
            yield other_vocabulary(setting, theirs=other.vocab_size, ours=self.vocab_size)

    def layer_problems(self, setting: str, num_layers: int) -> Iterator[str]:
        """Why the model's first layers can't be taken alone, if there are so few."""
        from gptft.decoding.layers import check_first_layers

        if self.num_layers is not None:
            check = partial(check_first_layers, num_layers, total=self.num_layers)
            yield from (f"{setting}: {problem}" for problem in problems(check))

    @cached_property
    def vocabulary(self) -> "Vocabulary":
        """The bytes of each token."""
        from gptft.decoding.matchers import vocabulary_of

        backend = self.tokenizer.backend
        added = backend.get_added_tokens_decoder()
        names = {
            i: backend.id_to_token(i) or ""
            for i in sorted(backend.get_vocab().values())
            if not (i in added and added[i].special)
        }

        def decode(rows: list[list[int]]) -> list[str]:
            with self.tokenizer.explained("decode its tokens"):
                return backend.decode_batch(rows)

        return vocabulary_of(names, decode=decode)


def problems(check: Callable[[], object]) -> Iterator[str]:
    """What a check refuses, a message each."""
    try:
        check()
    except ConfigError as error:
        yield from error.problems


def know_model(name: str, config: Mapping[str, Any], *, tokenizer: "TextTokenizer") -> KnownModel:
    """What a config.json, or the sizes of a new model, tell of a model.

    Args:
        name: what a person calls it.
        config: with the fields that the config says; others have their defaults.
        tokenizer: the model's.
    """
    from gptft.models.architectures import find_architecture
    from gptft.models.model_files import context_length

    try:
        architecture = find_architecture(str(config.get("model_type")))
    except LookupError:
        architecture = None
    aliases = architecture.aliases if architecture else {}
    given = {aliases.get(key, key): value for key, value in config.items()}
    fields = {**architecture.fields, **given} if architecture else given
    num_layers, vocab_size = (
        value if isinstance(value := fields.get(aliases.get(key, key)), int) else None
        for key in ("num_hidden_layers", "vocab_size")
    )
    return KnownModel(name, tokenizer, vocab_size, num_layers, context_length(fields))
