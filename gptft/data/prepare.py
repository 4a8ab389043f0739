"""The stage text -> block store: what `gptft prepare` does.

In: the `data` section of a config and a tokenizer, or the order to train one. Out: a block store in
the cache, content-addressed, with the tokenizer beside its blocks and a ledger of every token.
Must not import torch or transformers.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gptft.config.sections import Config, DataConfig
from gptft.data.encoded_documents import EncodedDocuments, encode_documents
from gptft.data.ledger import NAMED, Ledger
from gptft.data.plan import PackingPlan, check_average, plan_packing, store_path
from gptft.data.split import Split
from gptft.data.store import (
    SplitSize,
    commit_store,
    find_damage,
    read_ledger,
    staging_folder,
    write_split,
)
from gptft.documents.held_out import draw_validation
from gptft.documents.read import read_documents
from gptft.documents.scan import Progress, ScannedText, recall_scan, scan_texts
from gptft.documents.sources import VALIDATION, find_texts
from gptft.errors import ConfigError, DataError, RunError
from gptft.files import JsonFields, is_disk_full
from gptft.tokenization.encoder import Engine, choose_engine
from gptft.tokenization.token_ids import token_dtype
from gptft.tokenization.tokenizer import TextTokenizer, save_tokenizer, train_tokenizer

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Prepared(JsonFields):
    """A block store, ready for training.

    Attributes:
        path: its folder; `tokenizer/` inside it holds the tokenizer where one was trained.
        ledger: the account of what is in it.
        cached: whether it was there already.
        seconds: from the first byte read to the last block written, or to finding them written;
            opening the tokenizer is not in it.
    """

    path: Path
    ledger: Ledger
    cached: bool
    seconds: float

    json_names = ("cached", "seconds", "mb_per_s", "tokens_per_s", "path")
    json_digits: ClassVar = {"seconds": 3, "mb_per_s": 3, "tokens_per_s": 0}

    @property
    def mb_per_s(self) -> float:
        """Megabytes of text a second, in `seconds`."""
        return self.ledger.bytes / max(self.seconds, 1e-9) / 1e6

    @property
    def tokens_per_s(self) -> float:
        """Tokens of text a second, in `seconds`."""
        return self.ledger.tokens / max(self.seconds, 1e-9)

    def json_fields(self) -> dict[str, Any]:
        """The ledger with what this call adds, by name."""
        return {**self.ledger.json_fields(), **super().json_fields()}

    def sentences(self) -> list[str]:
        """The ledger in plain words, and where the blocks are."""
        how = (
            f"{self.seconds:.2f} s, {self.mb_per_s:.1f} MB/s, {self.tokens_per_s:,.0f} tokens/s, "
            f"by {self.ledger.engine}"
        )
        if self.cached:
            how = "found in the cache"
        return [*self.ledger.sentences(), f"Blocks: {self.path} ({how})."]


def prepare_config(
    config: Config,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    notify: Notify = lambda sentence: None,
) -> Prepared:
    """Prepare the blocks of a whole config; see `prepare_blocks` and `check_average`."""
    plan = plan_packing(config, cache_dir=cache_dir)
    check_average(config.model, plan.tokenizer)
    return prepare_blocks(plan, progress=progress, notify=notify)


def prepare_blocks(
    plan: PackingPlan,
    *,
    progress: Progress | None = None,
    notify: Notify = lambda sentence: None,
) -> Prepared:
    """Read, tokenize and pack texts into a block store, or find the one that is there.

    Args:
        plan: what decides the store.
        progress: called with (what is being done, bytes done, bytes in all) as the work goes on.
        notify: told in a sentence what a user should know: a damaged store, a slower engine.

    Raises:
        DataError: texts are missing, unreadable or hold nothing to train on.
        ConfigError: the block size is beyond the model's context.
        ModelError: the tokenizer has no EOS, or doesn't fit the model.
        RunError: the disk is full.
    """
    plan.check()
    found = find_texts(plan.data)
    recalled = recall_scan(found.texts, plan.data, cache_dir=plan.cache_dir)
    is_new = recalled is None or not store_path(plan, recalled).exists()
    opened = choose_engine(plan.tokenizer) if plan.tokenizer and is_new else None
    started = time.perf_counter()
    with explained_disk(plan.cache_dir):
        texts = recalled or scan_texts(
            found.texts, plan.data, cache_dir=plan.cache_dir, progress=progress
        )
        final = store_path(plan, texts)
        ledger = cached_ledger(final, texts, skipped=found.skipped, notify=notify)
        cached = ledger is not None
        if ledger is None:
            with (
                staging_folder(final.parent) as staging,
                staging_folder(final.parent) as all_encoded,
            ):
                tokenizer = plan.tokenizer or _train(plan, texts, staging)
                encode_documents(
                    texts,
                    plan.data,
                    tokenizer,
                    all_encoded,
                    engine=announced(opened or choose_engine(tokenizer), notify),
                    progress=progress,
                    notify=notify,
                )
                assemble(
                    plan, tokenizer, texts, [EncodedDocuments(all_encoded)], staging, final=final
                )
            ledger = store_ledger(final, texts, skipped=found.skipped)
    plan.check_id(ledger.max_token_id)
    return Prepared(final, ledger, cached=cached, seconds=time.perf_counter() - started)


def cached_ledger(
    final: Path, texts: Sequence[ScannedText], *, skipped: Mapping[str, int], notify: Notify
) -> Ledger | None:
    """The ledger of a store that is there and whole; None where it has to be made."""
    if not final.exists():
        return None
    if (damage := find_damage(final)) is None:
        try:
            return store_ledger(final, texts, skipped=skipped)
        except RunError:
            damage = "its ledger is another version's"
    notify(f"The block store {final} is damaged ({damage}); it is made again.")
    return None


def store_ledger(
    final: Path, texts: Sequence[ScannedText], *, skipped: Mapping[str, int]
) -> Ledger:
    """The ledger of a whole store, with the names that its texts have today.

    Raises:
        RunError: there is no store.
    """
    kept = read_ledger(final)
    ledger = None if kept is None else Ledger.from_dict(_with_names(kept, texts, skipped=skipped))
    if ledger is None:
        raise RunError(f"The block store {final} is gone, or another version of gptft made it.")
    return ledger


def _train(plan: PackingPlan, texts: Sequence[ScannedText], staging: Path) -> TextTokenizer:
    """Train the tokenizer on the training part, and write it beside the blocks."""
    settings = plan.tokenizer_train
    if settings is None:
        raise ConfigError("Name a model with a tokenizer, or set tokenizer.train.")
    data = plan.data
    ours = [text for text in texts if text.source.number != VALIDATION]
    held_out: Sequence[bool] | None = None
    if isinstance(data.validation, float):
        number = sum(1 for text in ours for _ in _whole_documents(text, data))
        held_out = draw_validation(number, data, fraction=data.validation).tolist()
    numbered = enumerate(document for text in ours for document in _whole_documents(text, data))
    kept = (text for number, text in numbered if held_out is None or not held_out[number])
    tokenizer = train_tokenizer(
        kept, vocab_size=settings.vocab_size, min_frequency=settings.min_frequency
    )
    save_tokenizer(
        tokenizer, staging / "tokenizer", model_max_length=plan.context or plan.block_size
    )
    return tokenizer


def _whole_documents(text: ScannedText, data: DataConfig) -> Iterator[str]:
    """The documents of a text that aren't empty, each in one piece."""
    pieces: list[str] = []
    for piece, ends in read_documents(text, data):
        pieces.append(piece)
        if ends:
            if document := "".join(pieces):
                yield document
            pieces = []


def assemble(
    plan: PackingPlan,
    tokenizer: TextTokenizer,
    texts: Sequence[ScannedText],
    all_encoded: Sequence[EncodedDocuments],
    staging: Path,
    *,
    final: Path,
) -> None:
    """Pack spools into a store: in `staging` first, `final` once it is whole.

    Raises:
        DataError: a part is empty, or shorter than a block that isn't to be kept.
    """
    numbers = [text.source.number for text in texts]
    parts = Split(all_encoded, numbers, plan.data)
    sizes = {
        part: write_split(
            parts.token_ids(part),
            staging,
            part=part,
            block_size=plan.block_size,
            dtype=token_dtype(tokenizer.vocab_size),
            keep_tail=plan.data.tail == "keep",
        )
        for part in ("train", "validation")
        if part == "train" or parts.num_validation
    }
    _check_not_empty(sizes, plan)
    ledger = _count(plan, tokenizer, texts, all_encoded, parts, sizes)
    commit_store(staging, final, ledger=ledger)


def _check_not_empty(sizes: Mapping[str, SplitSize], plan: PackingPlan) -> None:
    """Refuse a part with no block: with `tail: drop` a short text leaves nothing."""
    names = {"train": plan.data.train_names, "validation": "The validation part"}
    empty = [
        f"{names[part]} holds {size.dropped_tokens:,} tokens, fewer than one block of "
        f"{plan.block_size:,}, and data.tail is 'drop'. Use data.tail: keep, or lower "
        "data.block_size."
        for part, size in sizes.items()
        if not size.num_blocks and not size.tail_tokens
    ]
    if empty:
        raise DataError("\n".join(empty))


def _count(
    plan: PackingPlan,
    tokenizer: TextTokenizer,
    texts: Sequence[ScannedText],
    all_encoded: Sequence[EncodedDocuments],
    parts: Split,
    sizes: Mapping[str, SplitSize],
) -> dict[str, Any]:
    """All that the ledger says of the store itself; texts stand in it by number, not by name."""
    train, held_out = parts.counts["train"], parts.counts["validation"]
    size, validation = sizes["train"], sizes.get("validation", SplitSize(0, 0, 0))
    longest, shortest = parts.longest_and_shortest()
    num_duplicates, duplicates = parts.duplicates(at_most=NAMED)
    empty = [count for encoded in all_encoded for count in encoded.stats.empty]
    return {
        "files": len(texts),
        "documents": train.documents + held_out.documents,
        "empty_documents": sum(empty),
        "bytes": train.bytes + held_out.bytes,
        "characters": train.characters + held_out.characters,
        "tokens": train.tokens + held_out.tokens,
        "num_eos": train.documents + held_out.documents,
        "block_size": plan.block_size,
        "num_blocks": size.num_blocks,
        "tail_tokens": size.tail_tokens,
        "dropped_tokens": size.dropped_tokens,
        "validation_documents": parts.num_validation,
        "validation_blocks": validation.num_blocks,
        "validation_tail_tokens": validation.tail_tokens,
        "validation_dropped_tokens": validation.dropped_tokens,
        "validation_tokens": held_out.tokens,
        "vocab_size": tokenizer.vocab_size,
        "eos_token_id": tokenizer.require_eos(),
        "tail": plan.data.tail,
        "engine": ", ".join(sorted({encoded.stats.engine for encoded in all_encoded})),
        "max_token_id": max(train.max_token_id, held_out.max_token_id),
        "repeated_documents": parts.num_repeated,
        "unused_documents": parts.num_unused,
        "duplicate_documents": num_duplicates,
        "held_out_duplicates": parts.held_out_duplicates(),
        "longest_tokens": longest[1],
        "shortest_tokens": shortest[1],
        "places": {
            "empty": [n for n, count in enumerate(empty) if count][:NAMED],
            "longest": parts.place(longest[0]),
            "shortest": parts.place(shortest[0]),
            "duplicate": [[parts.place(a), parts.place(b)] for a, b in duplicates],
        },
    }


def _with_names(
    kept: dict[str, Any], texts: Sequence[ScannedText], *, skipped: Mapping[str, int]
) -> dict[str, Any]:
    places, names = kept["places"], [text.source.name for text in texts]
    decoded = [t for t in texts if t.facts.encoding not in ("utf-8", "utf-8-sig", "binary", "hub")]
    crlf = [text for text in texts if text.facts.crlf]

    def name(place: Sequence[int]) -> str:
        number, document, of = place
        return names[number] + (f", document {document:,}" if of > 1 else "")

    named = {
        "empty": [names[number] for number in places["empty"]],
        "longest": [name(places["longest"])],
        "shortest": [name(places["shortest"])],
        "duplicate": [f"{name(a)} = {name(b)}" for a, b in places["duplicate"]],
        "decoded": [f"{t.source.name} from {t.facts.encoding}" for t in decoded[:NAMED]],
        "crlf": [text.source.name for text in crlf[:NAMED]],
    }
    return {
        **kept,
        "skipped_files": sum(skipped.values()),
        "skipped": dict(skipped),
        "decoded_files": len(decoded),
        "crlf_files": len(crlf),
        "named": {kind: found for kind, found in named.items() if found},
    }


def announced(choice: tuple[Engine, str | None], notify: Notify) -> Engine:
    """The engine that `choose_engine` chose; `notify` is told why it isn't the fast one."""
    engine, why_slow = choice
    if why_slow:
        notify(why_slow)
    return engine


@contextmanager
def explained_disk(cache_dir: Path) -> Iterator[None]:
    """Say in a sentence that the disk is full, where it is.

    Raises:
        RunError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise RunError(
            f"The disk is full: the cache {cache_dir} could not take the blocks "
            f"({error.strerror}). They need about 4 bytes for every token while they are made; "
            "nothing half-written was kept. Make room, or set GPTFT_CACHE to a larger disk."
        ) from None
