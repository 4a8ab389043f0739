"""A model folder -> what its JSON files say, each file read once."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gptft.config.numbers import MAX_VOCAB_SIZE, as_whole
from gptft.errors import ModelError
from gptft.files import read_json
from gptft.inputs import is_file
from gptft.models.gguf_header import read_gguf_header
from gptft.terminal.words import short_value

# Names under which the architectures keep their context length, in the order they are looked up.
_CONTEXT_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len", "seq_length")
# Files of vocabularies that become a tokenizer.json, and what they are.
OLD_VOCABULARIES = {
    "vocab.txt": "WordPiece",
    "tokenizer.model": "SentencePiece",
    "spiece.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
}
# What gptft and the libraries read as a whole.
_READ_WHOLE = (
    "config.json", "generation_config.json", "adapter_config.json", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", *OLD_VOCABULARIES, "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_MAX_BYTES = 2**28  # of each; a tokenizer of 256,000 tokens has an eighth of it
_DTYPE = re.compile(r"(torch\.)?(auto|half|double|float|(b?float|u?int|complex)\d+(_\w+)?)")
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = f"{PICKLED}.index.json"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. An absent JSON file is an empty object.

    Attributes:
        name: what a person calls the model.
        path: its folder, or the tokenizer file in it that was named.
        gguf: the .gguf file that it is, whose folder lies in the cache and holds a config.json.
        adapters: folders of what changes its weights, in the order in which each is applied.
        own_tokenizer: the folder of one of them, where its tokenizer is another than the base's.
    """

    name: str
    path: Path
    gguf: Path | None = None
    adapters: tuple[Path, ...] = ()
    own_tokenizer: Path | None = None
    _read: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder that all its files are in."""
        return self.path.parent if self.path.is_file() else self.path

    def json(self, file_name: str) -> dict[str, Any]:
        """The JSON object in one of its files.

        Raises:
            ModelError: the file isn't a JSON object in UTF-8.
        """
        if file_name not in self._read:
            self._read[file_name] = _read_object(self.folder / file_name)
        return self._read[file_name]

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return self.json("config.json")

    @property
    def tokenizer(self) -> "ModelFiles":
        """The files that its tokenizer is in, with its config.json: its own, or an adapter's.

        The model has an embedding for each of an adapter's tokens once it is loaded.
        """
        if self.own_tokenizer is None:
            return self
        own, config = ModelFiles(self.name, self.own_tokenizer), dict(self.config)
        if isinstance(known := config.get("vocab_size"), int):
            config["vocab_size"] = max(known, own.num_ids)
        return replace(own, _read={**own._read, "config.json": config})

    @property
    def has_tokenizer(self) -> bool:
        """Whether one of the files is there that a tokenizer is kept in."""
        return any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))

    @property
    def old_vocabulary(self) -> Path | None:
        """The file of a vocabulary that becomes a tokenizer.json, where there is one."""
        named = (self.folder / name for name in OLD_VOCABULARIES)
        return next((path for path in named if path.is_file()), None)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of each token, as its tokenizer's file has it; empty without one."""
        if self.gguf is not None:
            tokens = read_gguf_header(self.gguf).get("tokenizer.ggml.tokens", [])
            return {str(token): place for place, token in enumerate(tokens)}
        stored = self.json("tokenizer.json")
        own = stored.get("model", {}).get("vocab") or self.json("vocab.json")
        if isinstance(own, list):  # of a unigram model: tokens with their scores
            own = {token: place for place, (token, _) in enumerate(own)}
        added = {one["content"]: one["id"] for one in stored.get("added_tokens") or ()}
        return {**own, **added}

    @property
    def num_ids(self) -> int:
        """One more than the highest id of its vocabulary; 0 where that can't be told."""
        with suppress(ModelError, AttributeError, KeyError, TypeError, ValueError):
            highest = max(self.vocabulary.values(), default=-1)
            return highest + 1 if 0 <= highest < MAX_VOCAB_SIZE else 0
        return 0

    @property
    def has_weights(self) -> bool:
        """Whether every file of weights is there that the index, where there is one, names."""
        if self.gguf is not None:
            return True
        if not has_safetensors(self.folder):
            with suppress(ModelError):
                return bool(pickled_files(self.folder))
        weight_map = self.json("model.safetensors.index.json").get("weight_map") or {}
        if not isinstance(weight_map, dict):
            return False
        named = {str(file) for file in weight_map.values()}
        present = {path.name for path in self.folder.glob("*.safetensors")}
        return bool(present) and named <= present


def require_small(files: ModelFiles) -> None:
    """Refuse a model with a file that is too large to be read as a whole, which those here are.

    Raises:
        ModelError: as said, with its size.
    """
    for path in dict.fromkeys([files.path, *(files.folder / name for name in _READ_WHOLE)]):
        size = path.stat().st_size if is_file(path) else 0
        if size > _MAX_BYTES:
            raise ModelError(
                f"{path} has {size:,} bytes, and no such file of a model has more than "
                f"{_MAX_BYTES:,}. Copy it again from where the model comes from."
            )


def require_dtype(files: ModelFiles) -> None:
    """Refuse a config.json that says its weights are of a type that torch doesn't have.

    transformers looks at it while it opens the tokenizer, and would blame that (5.23).

    Raises:
        ModelError: as said.
    """
    for name in ("dtype", "torch_dtype"):
        value = files.config.get(name)
        if isinstance(value, str) and not _DTYPE.fullmatch(value):
            raise ModelError(
                f"{files.folder / 'config.json'}: {name} is {short_value(value)}, and torch has no "
                "such type. Give float32, float16 or bfloat16."
            )


def has_safetensors(folder: Path) -> bool:
    """Whether a model's weights are there as safetensors, which come before pickled ones."""
    return any(folder.glob("*.safetensors"))


def pickled_files(folder: Path) -> list[Path]:
    """The files of pickled weights in a model's folder; none where there are none.

    Raises:
        ModelError: its index names one that is missing.
    """
    index = folder / PICKLED_INDEX
    if (folder / PICKLED).is_file():
        return [folder / PICKLED]
    if not index.is_file():
        return []
    try:
        named = read_json(index).get("weight_map")
    except (ValueError, OSError) as error:
        raise ModelError(f"{index} can't be read: {error}") from None
    if not isinstance(named, dict) or not all(isinstance(one, str) for one in named.values()):
        raise ModelError(f"{index} doesn't say which file each weight is in (weight_map).")
    names = sorted(set(named.values()))
    if strange := [one for one in names if Path(one).name != one]:
        raise ModelError(f"{index} names {strange[0]!r}, which isn't a file beside it.")
    if missing := [one for one in names if not (folder / one).is_file()]:
        raise ModelError(
            f"{folder} lacks {missing[0]}, which its index names, and {len(missing) - 1} more of "
            f"{len(names)} files." if len(missing) > 1 else
            f"{folder} lacks {missing[0]}, one of {len(names)} files that its index names."
        )  # fmt: skip
    return [folder / one for one in names]


def context_length(config: Mapping[str, Any]) -> int | None:
    """The most tokens a model of this config.json can see at once, or None if it sets no limit.

    >>> context_length({"model_type": "gpt2", "n_positions": 1024})
    1024
    """
    values = (as_whole(config.get(key)) for key in _CONTEXT_KEYS)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(str(error)) from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.") from None
