"""A model's name -> its tokenizer, with its special tokens and context; and back to a folder.

It takes the `tokenizers` library alone: opening a tokenizer takes milliseconds, importing
transformers takes seconds.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gptft.config.numbers import MAX_VOCAB_SIZE, as_whole
from gptft.errors import ConfigError, ModelError
from gptft.files import write_json, write_text
from gptft.inputs import expand_user, is_file, is_folder
from gptft.models.foreign import no_tokenizer
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles, context_length
from gptft.models.source import GGUF_SUFFIX, hub_parts
from gptft.panics import no_panic
from gptft.text.unicode import text_problem
from gptft.tokenization.framing import UNFRAMED, Framing, framing_of, set_framing
from gptft.tokenization.old_files import as_new, is_old

END_OF_TEXT = "<|endoftext|>"  # GPT-2's own EOS (Radford et al. 2019)
_SPECIAL_NAMES = ("eos_token", "bos_token", "pad_token", "unk_token")
_HAS_PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"')
MAX_IDS = 2**32  # what `tokenizers` counts with


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer and what its model's files say about it.

    Attributes:
        backend: text -> ids; never truncates or pads, and reads special-token strings as text.
        special_tokens: token text by name, of eos_token, bos_token, pad_token, unk_token.
        context: the most tokens its model sees at once, or None where no config.json says so.
        name: the model's name, for messages.
        num_embeddings: ids its model knows, or None where no config.json says so.
        framing: what stands around a text that its model is given.
        stray_eos_id: the EOS id in config.json, where the tokenizer has no control token of that
            id.
    """

    backend: Tokenizer
    special_tokens: dict[str, str]
    context: int | None
    name: str
    num_embeddings: int | None = None
    framing: Framing = UNFRAMED
    stray_eos_id: int | None = None

    @property
    def eos_token_id(self) -> int | None:
        """The id that ends a document, or None where the tokenizer has no EOS."""
        token = self.special_tokens.get("eos_token")
        return None if token is None else self.backend.token_to_id(token)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens counted.

        Raises:
            ModelError: it is beyond what any model has.
        """
        size = max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if size > MAX_VOCAB_SIZE:  # what is counted for each id would take all memory
            raise ModelError(
                f"The tokenizer of {self.name} gives a token the id {size - 1:,}; the highest that "
                f"gptft takes is {MAX_VOCAB_SIZE - 1:,}. Repair its tokenizer.json."
            )
        return size

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that decides ids, as hexadecimal."""
        content = self.backend.to_str() + json.dumps(self.special_tokens, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @contextmanager
    def explained(self, doing: str = "encode this text") -> Iterator[None]:
        """Encode or decode in this: the library has no type of error of its own, and may panic.

        Raises:
            ModelError: the vocabulary lacks a character, and has no token for what it lacks; or the
                library breaks on what tokenizer.json says.
        """
        try:
            with no_panic():
                yield
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"The tokenizer of {self.name} can't {doing}: {error}. "
                "Repair its tokenizer.json, or take another model's."
            ) from None

    def require_eos(self) -> int:
        """The EOS id.

        Raises:
            ModelError: the tokenizer has none, so that no document's end could be learned.
        """
        if self.eos_token_id is None:
            why = ""
            if self.stray_eos_id is not None:
                what = f"config.json says id {self.stray_eos_id:,}, and the vocabulary has"
                why = f" ({what} {self.vocab_size:,} ids)"
            raise ModelError(
                f"The tokenizer of {self.name} has no EOS token{why}, so the end of a document "
                "can't be learned. Set eos_token in its tokenizer_config.json."
            )
        return self.eos_token_id

    @property
    def stray_eos_notice(self) -> str | None:
        """What to say where config.json names an EOS that isn't there, and the tokenizer one."""
        if self.stray_eos_id is None or self.eos_token_id is None:
            return None
        ordinary = None
        if self.stray_eos_id < self.vocab_size:
            ordinary = self.backend.id_to_token(self.stray_eos_id)
        which = (
            f"and the vocabulary has {self.vocab_size:,} ids"
            if ordinary is None
            else f"which is an ordinary token, {ordinary}"
        )
        return (
            f"The config.json of {self.name} says that EOS is id {self.stray_eos_id:,}, {which}. "
            f"The tokenizer's own EOS is used, {self.special_tokens['eos_token']}, id "
            f"{self.eos_token_id:,}."
        )

    def with_bos(self, add_bos: bool | Literal["auto"]) -> "TextTokenizer":
        """The tokenizer with BOS before a text as `data.add_bos` says; auto is its own way.

        Raises:
            ConfigError: BOS is asked for, and there is none.
        """
        if add_bos == "auto" or add_bos == bool(self.framing.before):
            return self
        bos = self.special_tokens.get("bos_token")
        token_id = None if bos is None else self.backend.token_to_id(bos)
        if add_bos and token_id is None:
            raise ConfigError(
                f"data.add_bos is true, and the tokenizer of {self.name} has no BOS token. Use "
                "auto or false, or set bos_token in its tokenizer_config.json."
            )
        before = (token_id,) if add_bos and token_id is not None else ()
        return replace(self, framing=self.framing._replace(before=before))


def load_tokenizer(
    model: str | ModelFiles,
    *,
    revision: str | None = None,
    config_overrides: Mapping[str, Any] | None = None,
) -> TextTokenizer:
    """Open the tokenizer of a model.

    Args:
        model: a bundled model, a model or run folder, a folder with vocab.json and merges.txt,
            vocab.txt or a SentencePiece model, a tokenizer.json, a .gguf file or a hub id; or its
            files.
        revision: branch, tag or commit of a hub model.
        config_overrides: fields of the model's config that are changed; its context may be one.

    Raises:
        ModelError: there is none, or it can't be read.
    """
    if isinstance(model, str) and names_gguf(model):
        return _open_gguf(_gguf_path(model), name=model)
    files = find_model(model, revision=revision, with_weights=False).tokenizer
    if files.gguf is not None:
        return _open_gguf(files.gguf, name=files.name)
    if is_old(files):
        files = as_new(files)
    path = files.path
    is_vocab = path.name == "vocab.json" and (path.parent / "merges.txt").is_file()
    in_folder = is_vocab or not path.is_file()
    backend = _open_folder(files) if in_folder else _open(path)
    if not backend.get_vocab_size(with_added_tokens=False):
        raise ModelError(
            f"The tokenizer of {files.name} has an empty vocabulary: no text would have a token. "
            "Save it again, or take another one."
        )
    config = {**files.config, **(config_overrides or {})}
    special = _special_tokens(files, config, backend)
    _read_as_text(backend, special)
    size = as_whole(config.get("vocab_size"))
    num_embeddings = size if isinstance(size, int) else None
    has_template = not in_folder or (files.folder / "tokenizer.json").is_file()
    framing = framing_of(backend) if has_template else _framing_by_flags(files, special, backend)
    context = context_length(config)
    stray = _stray_eos(config, backend, special)
    return TextTokenizer(backend, special, context, files.name, num_embeddings, framing, stray)


def names_gguf(name: str) -> bool:
    """Whether a model's name is that of a .gguf file on this machine."""
    if not name.lower().endswith(GGUF_SUFFIX) or is_folder(Path(name)):
        return False
    return hub_parts(name).file is None or is_file(Path(name))  # else it may be one on the hub


def _gguf_path(name: str) -> Path:
    try:
        path = expand_user(name)
    except OSError as error:
        raise ModelError(f"{name} can't be opened: {error.strerror}.") from None
    if not is_file(path):
        raise ModelError(f"{name}: no such file. Give the path of a .gguf file that is here.")
    return path


def _open_gguf(path: Path, *, name: str) -> TextTokenizer:
    from gptft.tokenization.gguf import open_gguf  # few tokenizers are in such files

    opened = open_gguf(path)
    _read_as_text(opened.backend, opened.special_tokens)
    return TextTokenizer(
        opened.backend, opened.special_tokens, opened.context, name, opened.num_embeddings,
        opened.framing,
    )  # fmt: skip


def _read_as_text(backend: Tokenizer, special: Mapping[str, str]) -> None:
    """Keep a tokenizer from cutting, filling up, and reading a special token out of a text."""
    backend.no_truncation()
    backend.no_padding()
    backend.add_special_tokens([AddedToken(t, special=True) for t in special.values()])
    backend.encode_special_tokens = True


def byte_level(model: models.Model, *, add_prefix_space: bool = False) -> Tokenizer:
    """A tokenizer around `model` that splits words as GPT-2 and works on bytes.

    Source: Radford et al. 2019, section 2.2.
    """
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def save_tokenizer(tokenizer: TextTokenizer, folder: Path, *, model_max_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json as `AutoTokenizer` expects them.

    Raises:
        OSError: they can't be written; neither is ever left half written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backend = tokenizer.backend
    if framing_of(backend) != tokenizer.framing:
        backend = Tokenizer.from_str(backend.to_str())
        set_framing(backend, tokenizer.framing)
    write_text(folder / "tokenizer.json", backend.to_str(pretty=True))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model_max_length,
        "clean_up_tokenization_spaces": False,
        **tokenizer.special_tokens,
    }
    write_json(folder / "tokenizer_config.json", config)


def _open_folder(files: ModelFiles) -> Tokenizer:
    folder = files.folder
    if (folder / "tokenizer.json").is_file():
        return _open(folder / "tokenizer.json")
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        raise no_tokenizer(files)
    try:
        with no_panic():
            model = models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{vocab} and {merges} can't be read: {error}.") from None
    prefix = bool(files.json("tokenizer_config.json").get("add_prefix_space", False))
    backend = byte_level(model, add_prefix_space=prefix)
    _add_tokens(backend, files)
    return backend


def _add_tokens(backend: Tokenizer, files: ModelFiles) -> None:
    """Add the tokens that older folders keep in a file of their own, text -> id."""
    numbered, path = files.json("added_tokens.json"), files.folder / "added_tokens.json"
    if not all(isinstance(number, int) for number in numbered.values()):
        raise ModelError(f"{path} doesn't give every token a number.")
    for token, number in sorted(numbered.items(), key=lambda item: item[1]):
        backend.add_tokens([AddedToken(token, normalized=False)])
        if (given := backend.token_to_id(token)) != number:
            raise ModelError(
                f"{path} gives {token!r} the id {number:,}, and the vocabulary has {given} for it."
            )


def _open(path: Path) -> Tokenizer:
    try:
        raw = path.read_bytes()
        if _HAS_PREFIX.search(raw) and breaks_library(json.loads(raw)):
            raise ValueError("a merge's right side lacks the continuing_subword_prefix")
        with no_panic():
            return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{path} is not a tokenizer.json: {error}.") from None


def breaks_library(document: Mapping[str, Any]) -> bool:
    """Whether opening a tokenizer.json would end the process, which no exception can tell.

    The library cuts as many bytes off a merge's right side as the prefix has, without looking.
    """
    model = document.get("model")
    model = model if isinstance(model, Mapping) else {}
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if not isinstance(prefix, str) or not isinstance(merges, list):
        return False
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return any(
        not str(pair[1]).startswith(prefix)
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2
    )


def _special_tokens(
    files: ModelFiles, config: Mapping[str, Any], backend: Tokenizer
) -> dict[str, str]:
    """Special tokens by name, from the first file that names each.

    The order is tokenizer_config.json, special_tokens_map.json, then the ids in config.json. A
    token the vocabulary doesn't hold is left out. -1, as some config.json have it, is no token.
    """
    naming = [files.json(f"{name}.json") for name in ("tokenizer_config", "special_tokens_map")]
    found: dict[str, str] = {}
    for name in _SPECIAL_NAMES:
        named = [_token_text(values.get(name)) for values in naming]
        ids = config.get(f"{name}_id")
        ids = ids if isinstance(ids, list) else [ids]
        named += [backend.id_to_token(i) for i in ids if isinstance(i, int) and 0 <= i < MAX_IDS]
        known = [t for t in named if t is not None and backend.token_to_id(t) is not None]
        if known:
            found[name] = known[0]
    return found


def _stray_eos(
    config: Mapping[str, Any], backend: Tokenizer, special: Mapping[str, str]
) -> int | None:
    """The EOS id that a config.json names, where the tokenizer has no control token of that id."""
    ids = config.get("eos_token_id")
    given = [i for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int) and i >= 0]
    added = backend.get_added_tokens_decoder() if given else {}

    def is_stray(i: int) -> bool:
        token = backend.id_to_token(i) if i < MAX_IDS else None
        return token is None or not (
            token == special.get("eos_token") or (i in added and added[i].special)
        )

    return given[0] if given and all(map(is_stray, given)) else None


def _framing_by_flags(files: ModelFiles, special: Mapping[str, str], backend: Tokenizer) -> Framing:
    """What stands around a text where no tokenizer.json has a template.

    `AutoTokenizer` goes by these two flags then, and ignores them elsewhere (transformers 5.23).
    """

    def ids(name: str) -> tuple[int, ...]:
        is_added = files.json("tokenizer_config.json").get(f"add_{name}") is True
        token_id = backend.token_to_id(special.get(name, END_OF_TEXT)) if is_added else None
        return () if token_id is None else (token_id,)

    return Framing(ids("bos_token"), ids("eos_token"))


def _token_text(value: Any) -> str | None:
    """A special token as tokenizer_config.json has it: a string or {"content": ...}.

    >>> _token_text({"content": "</s>", "lstrip": False})
    '</s>'
    """
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and text_problem(value) is None else None
