"""A model's name -> the files of its tokenizer as they stand, and why some can't be read."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from gptft.errors import ModelError
from gptft.inputs import read_input
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles
from gptft.tokenization.old_files import is_old
from gptft.tokenization.tokenizer import TextTokenizer, breaks_library, load_tokenizer, names_gguf
from gptft.tokenization.tokens import split_tokens

Json = Mapping[str, Any]
T = TypeVar("T")

_MAX_TEMPLATE = 10_000_000  # bytes
_UNKNOWN = "a \U0010ffff"  # no vocabulary of characters has the last one
_FILES = ("tokenizer_config", "special_tokens_map", "config", "generation_config", "chat_template")


@dataclass(frozen=True)
class TokenizerFiles:
    """What an audit reads. An absent file is an empty object.

    Attributes:
        source: the file that holds the vocabulary.
        document: tokenizer.json, or what stands for it where there is none.
        tokenizer_config: tokenizer_config.json.
        special_tokens_map: special_tokens_map.json.
        config: config.json; of a model that sees pictures its text_config, too.
        generation_config: generation_config.json.
        templates: chat templates by "file:key".
        repeated: keys that an object of tokenizer.json has more than once.
        tokenizer: as gptft opens it, special-token strings kept text; None where it doesn't open.
        default: as the library opens it by default; None where it doesn't open.
        unreadable: by file name, what keeps it from being read.
    """

    source: str
    document: Json
    tokenizer_config: Json
    config: Json
    tokenizer: TextTokenizer | None
    default: Tokenizer | None
    special_tokens_map: Json = field(default_factory=dict)
    generation_config: Json = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Json:
        """The model in tokenizer.json: its vocabulary and merges."""
        return _object(self.document.get("model"))


def read_tokenizer_files(name: str, *, revision: str | None = None) -> TokenizerFiles:
    """Read all that decides how a model's texts become ids.

    Args:
        name: what a person calls the model; see `load_tokenizer`.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, or nothing of a tokenizer in it.
    """
    if names_gguf(name):
        return _of_gguf(name)
    files = find_model(name, revision=revision, with_weights=False).tokenizer
    if files.gguf is not None:  # the base of an adapter
        return _of_gguf(name)
    source = files.path if files.path.is_file() else files.folder / "tokenizer.json"
    unreadable: dict[str, str] = {}
    repeated: list[str] = []
    document = _document(source, unreadable, repeated) if source.is_file() else {}
    read = {file: _read(files, f"{file}.json", unreadable) for file in _FILES}
    tokenizer, default = None, None
    try:
        if breaks_library(document):
            key = f"{source.name}:model.continuing_subword_prefix"
            unreadable[key] = (
                "A merge's second token lacks the prefix of tokens that continue a word."
            )
        else:
            opened = load_tokenizer(files)
            split_tokens(opened, _UNKNOWN)
            _ = opened.vocab_size  # refused where an id is beyond sense
            tokenizer = opened
    except (ModelError, UnicodeEncodeError) as error:
        if not (document or unreadable):
            raise
        if not unreadable:
            unreadable[source.name] = str(error)
    if tokenizer is not None:
        if not document or "model" not in document:  # vocab.json and merges.txt, or older
            source = (
                files.old_vocabulary if is_old(files) else None
            ) or files.folder / "vocab.json"
            document = json.loads(tokenizer.backend.to_str())
        default = Tokenizer.from_str(json.dumps(document))
    config = read["config"]
    return TokenizerFiles(
        source=source.name,
        document=document,
        tokenizer_config=read["tokenizer_config"],
        special_tokens_map=read["special_tokens_map"],
        config={**_object(config.get("text_config")), **config},
        generation_config=read["generation_config"],
        templates=_templates(files.folder, read, unreadable),
        repeated=tuple(dict.fromkeys(repeated)),
        tokenizer=tokenizer,
        default=default,
        unreadable=unreadable,
    )


def _of_gguf(name: str) -> TokenizerFiles:
    """Of a file that holds everything; its ids were made to agree when it was."""
    tokenizer = load_tokenizer(name)
    text = tokenizer.backend.to_str()
    named = {**tokenizer.special_tokens, "model_max_length": tokenizer.context}
    config = {"vocab_size": tokenizer.num_embeddings, "n_positions": tokenizer.context}
    return TokenizerFiles(
        source=Path(name).name,
        document=json.loads(text),
        tokenizer_config=named,
        config=config,
        tokenizer=tokenizer,
        default=Tokenizer.from_str(text),
    )


def _document(path: Path, unreadable: dict[str, str], repeated: list[str]) -> Json:
    def note_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(more_than_once(key for key, _ in pairs))
        return dict(pairs)

    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text, object_pairs_hook=note_repeated)
    except (OSError, ValueError, RecursionError) as error:
        unreadable[path.name] = f"{path.name} is not readable as JSON: {error}."
        return {}
    return _object(document)


def _read(files: ModelFiles, file: str, unreadable: dict[str, str]) -> Json:
    try:
        values = files.json(file)
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        unreadable[file] = f"{file} holds half of a surrogate pair, which is no text."
        return {}
    except ModelError as error:
        unreadable[file] = str(error)
        return {}
    return values


def _templates(folder: Path, read: Mapping[str, Json], unreadable: dict[str, str]) -> Json:
    """Chat templates from every place that transformers looks in."""
    found: dict[str, str] = {}
    for file in ("tokenizer_config", "chat_template"):
        value, key = read[file].get("chat_template"), f"{file}.json:chat_template"
        if isinstance(value, str):
            found[key] = value
        for one in value if isinstance(value, list) else []:
            if isinstance(one, dict) and isinstance(one.get("template"), str):
                found[f"{key}[{one.get('name')}]"] = one["template"]
    for path in [folder / "chat_template.jinja", *folder.glob("additional_chat_templates/*.jinja")]:
        if path.is_file():
            try:
                found[path.name] = read_input(path, at_most=_MAX_TEMPLATE).decode()
            except OSError as error:
                unreadable[path.name] = f"{path.name} is not readable: {error.strerror}."
            except UnicodeDecodeError as error:
                unreadable[path.name] = f"{path.name} is not readable: {error}."
    return found


def more_than_once(values: Iterable[T]) -> list[T]:
    """The values that occur more than once, each once, in order."""
    return [value for value, number in Counter(values).items() if number > 1]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
