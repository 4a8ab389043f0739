"""The stage text -> block store: what `gptft prepare` does.

In: the `data` section of a config and a tokenizer, or the order to train one. Out: a block store in
the cache, content-addressed, with the tokenizer beside its blocks and a ledger of every token.
Must not import torch or transformers.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gptft.config.sections import Config, DataConfig, TokenizerTrainConfig
from gptft.corpus.documents import Documents, Progress, find_parts
from gptft.corpus.ledger import Ledger
from gptft.corpus.packing import TokenIds, token_dtype
from gptft.corpus.reader import check_files
from gptft.corpus.store import PartSize, commit_store, read_ledger, write_part
from gptft.corpus.tokenizer import (
    TextTokenizer,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from gptft.errors import ConfigError, DataError
from gptft.models.source import context_length

DEFAULT_BLOCK_SIZE = 1024
_FORMAT = 1  # of the store; part of its address, so that an older gptft's store is never misread


@dataclass(frozen=True)
class Prepared:
    """A block store, ready for training.

    Attributes:
        path: its folder; `tokenizer/` inside it holds the tokenizer where one was trained.
        ledger: the account of what is in it.
        cached: whether it was there already.
        seconds: how long this call took.
    """

    path: Path
    ledger: Ledger
    cached: bool
    seconds: float

    @property
    def mb_per_s(self) -> float:
        """Megabytes of text a second in this call."""
        return self.ledger.bytes / max(self.seconds, 1e-9) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """The ledger with what this call adds, by name."""
        return {
            **self.ledger.to_dict(),
            "cached": self.cached,
            "seconds": round(self.seconds, 3),
            "mb_per_s": round(self.mb_per_s, 3),
            "path": str(self.path),
        }

    def sentences(self) -> list[str]:
        """The ledger in plain words, and where the blocks are."""
        how = f"{self.seconds:.2f} s, {self.mb_per_s:.1f} MB/s"
        if self.cached:
            how = "found in the cache"
        return [*self.ledger.sentences(), f"Blocks: {self.path} ({how})."]


def default_cache_dir() -> Path:
    """Where block stores live: $GPTFT_CACHE, else gptft in $XDG_CACHE_HOME, else ~/.cache/gptft."""
    if named := os.environ.get("GPTFT_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "gptft"


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


def prepare_config(
    config: Config, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> Prepared:
    """Prepare the blocks of a whole config: its tokenizer, or the one it says to train.

    Raises:
        ConfigError: there is no data section; and as `prepare_blocks`.
    """
    if config.data is None:
        raise ConfigError("There is no data section. Set data.train to a text file or folder.")
    sizes = config.model.from_scratch
    name = config.model.name if sizes is None else config.tokenizer.name
    tokenizer = None if name is None else load_tokenizer(name, revision=config.model.revision)
    context = tokenizer.context if tokenizer else None
    if sizes is not None:
        context = context_length(sizes)
    return prepare_blocks(
        config.data,
        tokenizer=tokenizer,
        tokenizer_train=config.tokenizer.train,
        context=context,
        cache_dir=cache_dir,
        progress=progress,
    )


def prepare_blocks(
    data: DataConfig,
    *,
    tokenizer: TextTokenizer | None,
    tokenizer_train: TokenizerTrainConfig | None = None,
    context: int | None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Read, tokenize and pack the texts of `data` into a block store.

    Args:
        data: the config's data section.
        tokenizer: the model's; None to train one on the training part, as `tokenizer_train` says.
        tokenizer_train: settings of the tokenizer to train; needed where `tokenizer` is None.
        context: the most tokens the model can see, where known.
        cache_dir: where stores live; by default `default_cache_dir()`.
        progress: called with (bytes encoded, bytes in all) as the work goes on.

    Raises:
        DataError: files are missing, unreadable or hold nothing to train on.
        ConfigError: the block size is beyond the model's context.
        ModelError: the tokenizer has no EOS.
    """
    started = time.perf_counter()
    block_size = choose_block_size(data.block_size, context=context)
    if tokenizer is not None:
        tokenizer.require_eos()
    train_files, validation_files = find_parts(data)
    store = cache_dir or default_cache_dir()
    address = _address(
        data,
        files=(train_files.files, validation_files),
        tokenizer=tokenizer.digest if tokenizer else _train_key(tokenizer_train),
        block_size=block_size,
    )
    final = store / "blocks" / address
    if (known := Ledger.from_dict(read_ledger(final) or {})) is not None:
        ledger = replace(known, skipped_files=len(train_files.skipped))
        return Prepared(final, ledger, cached=True, seconds=time.perf_counter() - started)
    check_files([*train_files.files, *validation_files])
    corpus = Documents(data, train_files.files, validation_files, progress)
    staging = _staging(final)
    try:
        if tokenizer is None:
            if tokenizer_train is None:
                raise ConfigError("Name a model with a tokenizer, or set tokenizer.train.")
            tokenizer = train_tokenizer(
                corpus.texts("train"),
                vocab_size=tokenizer_train.vocab_size,
                min_frequency=tokenizer_train.min_frequency,
            )
            save_tokenizer(tokenizer, staging / "tokenizer", model_max_length=context or block_size)
        ledger = _write(
            corpus,
            tokenizer,
            staging,
            block_size=block_size,
            tail=data.tail,
            skipped=len(train_files.skipped),
        )
        _check_not_empty(ledger, data)
        commit_store(staging, final, ledger=ledger.to_dict())
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Prepared(final, ledger, cached=False, seconds=time.perf_counter() - started)


def _train_key(settings: TokenizerTrainConfig | None) -> str:
    return "" if settings is None else settings.model_dump_json()


def _address(
    data: DataConfig,
    *,
    files: tuple[Sequence[Path], Sequence[Path]],
    tokenizer: str,
    block_size: int,
) -> str:
    """The store's name: SHA-256 over all that decides its content, 32 hexadecimal digits of it."""
    content = {
        "format": _FORMAT,
        "files": [[_file_digest(path) for path in part] for part in files],
        "tokenizer": tokenizer,
        "block_size": block_size,
        "document_separator": data.document_separator,
        "tail": data.tail,
        "validation": data.validation if isinstance(data.validation, float) else None,
        "seed": data.seed if isinstance(data.validation, float) else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from None


def _staging(final: Path) -> Path:
    """An empty folder beside `final`, for what isn't whole yet."""
    staging = final.parent / f".staging-{final.name}-{os.getpid()}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise DataError(
            f"The cache folder {final.parent} can't be written: {error.strerror}. "
            "Set GPTFT_CACHE to a folder that can."
        ) from None
    return staging


def _write(
    corpus: Documents,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    block_size: int,
    tail: Literal["keep", "drop"],
    skipped: int,
) -> Ledger:
    """Encode and pack both parts into `folder`, and count."""
    num_tokens = 0

    def encoded(part: str) -> Iterator[TokenIds]:
        nonlocal num_tokens
        for ids in tokenizer.encode_documents(corpus.counted(part)):
            num_tokens += len(ids) - 1
            yield ids

    def write(part: str) -> PartSize:
        return write_part(
            encoded(part),
            folder,
            part=part,
            block_size=block_size,
            dtype=token_dtype(tokenizer.vocab_size),
            keep_tail=tail == "keep",
        )

    train = write("train")
    validation = write("validation") if corpus.num_validation else PartSize(0, 0, 0)
    return Ledger(
        files=len(corpus.files),
        skipped_files=skipped,
        documents=corpus.num_documents,
        empty_documents=corpus.num_empty,
        bytes=corpus.num_bytes,
        characters=corpus.num_characters,
        tokens=num_tokens,
        num_eos=corpus.num_documents,
        block_size=block_size,
        num_blocks=train.num_blocks,
        tail_tokens=train.tail_tokens,
        dropped_tokens=train.dropped_tokens,
        validation_documents=corpus.num_validation,
        validation_blocks=validation.num_blocks,
        validation_tail_tokens=validation.tail_tokens,
        validation_dropped_tokens=validation.dropped_tokens,
        vocab_size=tokenizer.vocab_size,
        eos_token_id=tokenizer.require_eos(),
        tail=tail,
    )


def _check_not_empty(ledger: Ledger, data: DataConfig) -> None:
    """Refuse a part with no block: with `tail: drop` a short text leaves nothing."""
    empty = []
    if not ledger.num_blocks and not ledger.tail_tokens:
        empty.append((", ".join(data.train), ledger.dropped_tokens))
    if ledger.validation_documents and not (
        ledger.validation_blocks or ledger.validation_tail_tokens
    ):
        empty.append(("The validation part", ledger.validation_dropped_tokens))
    if empty:
        raise DataError(
            "\n".join(
                f"{name} holds {tokens:,} tokens, fewer than one block of {ledger.block_size:,}, "
                "and data.tail is 'drop'. Use data.tail: keep, or lower data.block_size."
                for name, tokens in empty
            )
        )
