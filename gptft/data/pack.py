"""Encoded documents -> a block store with its ledger: made, or found where it is there already."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gptft.console import Notify
from gptft.data import store
from gptft.data.encoded_documents import EncodedDocuments
from gptft.data.fitted_blocks import Framing, write_fitted
from gptft.data.ledger import NAMED, Ledger, left_out_words
from gptft.data.plan import PackingPlan, store_path
from gptft.data.row_files import Rows
from gptft.data.split import Split, SplitName
from gptft.documents.formats.registry import format_of
from gptft.documents.scan import ScannedText
from gptft.errors import DataError, RunError
from gptft.files import JsonFields, is_disk_full
from gptft.terminal.words import count
from gptft.tokenization.token_ids import token_dtype
from gptft.tokenization.tokenizer import TextTokenizer

# A folder that becomes the store, and a scratch folder -> the tokenizer and what it encoded.
Encode = Callable[[Path, Path], tuple[TextTokenizer, Sequence[EncodedDocuments]]]


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


def find_or_pack(
    plan: PackingPlan,
    texts: Sequence[ScannedText],
    encode: Encode,
    *,
    skipped: Mapping[str, int],
    started: float,
    notify: Notify,
) -> Prepared:
    """The store of these texts: found, or packed of what `encode` gives.

    Args:
        plan: what else decides the store.
        texts: in order.
        encode: called at most once.
        skipped: how many files were skipped, by reason, for the ledger.
        started: by `time.perf_counter`, when the work began.
        notify: told in a sentence of a damaged store.

    Raises:
        DataError: a split is empty, or shorter than a block that isn't to be kept.
        ModelError: the tokenizer doesn't fit the model.
    """
    store_dir = store_path(plan, texts)
    ledger = find_ledger(plan, store_dir, texts, skipped=skipped, notify=notify)
    cached = ledger is not None
    if ledger is None:
        parent = store_dir.parent
        with store.staging_folder(parent) as staging, store.staging_folder(parent) as scratch:
            tokenizer, encoded = encode(staging, scratch)
            stored = _pack(plan, tokenizer, texts, encoded, staging)
            store.commit_store(staging, store_dir, ledger=stored)
        if (ledger := _named_ledger(plan, store_dir, texts, skipped=skipped)) is None:
            raise RunError(
                f"The block store {store_dir} is gone, or another version of gptft made it."
            )
    plan.check_id(ledger.max_token_id)
    return Prepared(store_dir, ledger, cached, time.perf_counter() - started)


def find_ledger(
    plan: PackingPlan,
    store_dir: Path,
    texts: Sequence[ScannedText],
    *,
    skipped: Mapping[str, int],
    notify: Notify,
) -> Ledger | None:
    """The ledger of a store that is there and intact; None where it has to be made."""
    if not store_dir.exists():
        return None
    if (damage := store.find_damage(store_dir)) is None:
        ledger = _named_ledger(plan, store_dir, texts, skipped=skipped)
        if ledger is None:
            damage = "its ledger is another version's"
        elif ledger.split_documents and not store.tells_pieces(store_dir):
            damage = "another version made it, which told no pieces of documents apart"
        else:
            return ledger
    notify(f"The block store {store_dir} is damaged ({damage}); it is made again.")
    return None


def _pack(
    plan: PackingPlan,
    tokenizer: TextTokenizer,
    texts: Sequence[ScannedText],
    encoded: Sequence[EncodedDocuments],
    folder: Path,
) -> dict[str, Any]:
    """Write the blocks of both splits, and give what the ledger says of them."""
    numbers = [text.source.number for text in texts]
    split = Split(encoded, numbers, plan.data, bos=plan.bos, begins_each=plan.begins_each)
    names: list[SplitName] = ["train", "validation"] if split.num_validation else ["train"]
    size = plan.block_size
    _refuse_long(plan, split, texts, names)
    sizes = {name: _write(plan, tokenizer, split, folder, name) for name in names}
    shown = {"train": plan.data.train_names, "validation": "The validation split"}
    empty = [
        f"{shown[name]} holds {one.dropped_tokens:,} tokens, fewer than one block of {size:,}, and "
        "data.tail is 'drop'. Use data.tail: keep, or lower data.block_size."
        for name, one in sizes.items()
        if not one.num_blocks and not one.tail_tokens
    ]
    if empty:
        raise DataError(*empty)
    return {
        "files": len(texts),
        **_counts(split, sizes),
        **_peculiarities(split, encoded),
        "block_size": size,
        "vocab_size": tokenizer.vocab_size,
        "eos_token_id": tokenizer.require_eos(),
        "bos_token_ids": plan.bos,
        "tail": plan.data.tail,
        "engine": ", ".join(sorted({one.stats.engine for one in encoded})),
        **_fitted_counts(plan, sizes),
        **_chat_counts(plan, encoded),
    }


def _chat_counts(plan: PackingPlan, encoded: Sequence[EncodedDocuments]) -> dict[str, Any]:
    """What the ledger says of conversations."""
    if plan.chat is None:
        return {}
    return {
        "chat": plan.chat.as_facts,
        "answers": sum(one.stats.answers for one in encoded),
        "unanswered_documents": sum(number for one in encoded for number in one.stats.unanswered),
    }


def _refuse_long(
    plan: PackingPlan, split: Split, texts: Sequence[ScannedText], names: Sequence[SplitName]
) -> None:
    """Refuse documents that a block can't hold, where they are not to be split."""
    if plan.data.long_documents != "refuse" or plan.packing != "best_fit":
        return
    size = plan.block_size
    placed = [split.placed(name) for name in names]
    documents = np.concatenate([one.documents for one in placed])
    tokens = np.concatenate([one.tokens for one in placed]) + len(plan.bos)
    documents, places = np.unique(documents, return_index=True)  # once each, whatever its weight
    tokens = tokens[places]
    if number := int((tokens > size).sum()):
        at = int(tokens.argmax())
        text, document, of = split.place(int(documents[at]))
        name = texts[text].source.name + (f", document {document:,}" if of > 1 else "")
        raise too_long(number, longest=name, num_tokens=int(tokens[at]), block_size=size)


def too_long(number: int, *, longest: str, num_tokens: int, block_size: int) -> DataError:
    """What to say of documents that no block holds and that aren't to be split.

    Args:
        number: how many there are.
        longest: the name of the longest.
        num_tokens: its tokens.
        block_size: tokens a block.
    """
    return DataError(
        f"{count(number, 'document')} longer than a block of {block_size:,} tokens, and "
        f"data.long_documents is 'refuse'; the longest is {longest}, of {num_tokens:,} with BOS "
        "and EOS. Use data.long_documents: split, or raise data.block_size."
    )


def _write(
    plan: PackingPlan, tokenizer: TextTokenizer, split: Split, folder: Path, name: SplitName
) -> store.SplitSize:
    """Write the blocks of one split."""
    size, dtype, keep = plan.block_size, token_dtype(tokenizer.vocab_size), plan.data.tail == "keep"
    if plan.packing == "best_fit":
        framing = Framing(plan.bos, tokenizer.require_eos())
        return write_fitted(
            split, folder, name=name, framing=framing, block_size=size, dtype=dtype, keep_tail=keep
        )
    marked = split.is_marked
    return store.write_split(
        split.marked_ids(name) if marked else split.token_ids(name),
        folder, split=name, block_size=size, dtype=dtype, keep_tail=keep,
        as_rows=Rows.of_marked if marked else Rows,
    )  # fmt: skip


def _fitted_counts(
    plan: PackingPlan, sizes: Mapping[SplitName, store.SplitSize]
) -> dict[str, str | int]:
    """What the ledger says of blocks that aren't a stream of text; nothing of those that are."""
    train, validation = sizes["train"], sizes.get("validation", store.SplitSize(0, 0, 0))
    found: dict[str, str | int] = {}
    if plan.packing == "best_fit":
        found |= {
            "packing": plan.packing,
            "padding_tokens": train.padding_tokens,
            "validation_padding_tokens": validation.padding_tokens,
            "split_documents": train.split_documents + validation.split_documents,
        }
    if plan.is_masked:
        found |= {
            "trained_tokens": train.trained_tokens,
            "validation_trained_tokens": validation.trained_tokens,
        }
    return found


def _counts(split: Split, sizes: Mapping[SplitName, store.SplitSize]) -> dict[str, int]:
    """How much went in and came out, of both splits together and of the validation split."""
    train, held_out = split.counts["train"], split.counts["validation"]
    validation = sizes.get("validation", store.SplitSize(0, 0, 0))
    added = ("documents", "bytes", "characters", "tokens")
    both = {name: getattr(train, name) + getattr(held_out, name) for name in added}
    return {
        **both,
        "num_eos": both["documents"],
        "num_bos": train.bos + held_out.bos,
        "num_blocks": sizes["train"].num_blocks,
        "tail_tokens": sizes["train"].tail_tokens,
        "dropped_tokens": sizes["train"].dropped_tokens,
        "validation_documents": split.num_validation,
        "validation_blocks": validation.num_blocks,
        "validation_tail_tokens": validation.tail_tokens,
        "validation_dropped_tokens": validation.dropped_tokens,
        "validation_tokens": held_out.tokens,
        "max_token_id": max(train.max_token_id, held_out.max_token_id),
        "repeated_documents": split.num_repeated,
        "unused_documents": split.num_unused,
    }


def _peculiarities(split: Split, encoded: Sequence[EncodedDocuments]) -> dict[str, Any]:
    """What stands out; texts by number, since their names aren't part of a store's address."""
    empty = [count for one in encoded for count in one.stats.empty]
    longest, shortest = split.longest_and_shortest()
    num_duplicates, duplicates = split.duplicates(at_most=NAMED)
    return {
        "empty_documents": sum(empty),
        "duplicate_documents": num_duplicates,
        "held_out_duplicates": split.held_out_duplicates(),
        "longest_tokens": longest[1],
        "shortest_tokens": shortest[1],
        "places": {
            "empty": [number for number, count in enumerate(empty) if count][:NAMED],
            "longest": split.place(longest[0]),
            "shortest": split.place(shortest[0]),
            "duplicate": [[split.place(a), split.place(b)] for a, b in duplicates],
        },
    }


def _named_ledger(
    plan: PackingPlan, store_dir: Path, texts: Sequence[ScannedText], *, skipped: Mapping[str, int]
) -> Ledger | None:
    """The ledger of an intact store, with the names that its texts have today."""
    if (stored := store.read_ledger(store_dir)) is None:
        return None
    places, names = stored["places"], [text.source.name for text in texts]
    decoded = [t for t in texts if t.facts.encoding not in ("utf-8", "utf-8-sig", "binary", "hub")]
    crlf = [text for text in texts if text.facts.crlf and plan.data.line_ends == "keep"]

    books = [t for t in texts if t.source.path and format_of(t.source.path).count_left_out]

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
        "book": [
            f"{t.source.name} [left out: {left_out_words(t.facts.left_out)}]" for t in books[:NAMED]
        ],
    }
    found_today = {
        "skipped_files": sum(skipped.values()),
        "skipped": dict(skipped),
        "decoded_files": len(decoded),
        "crlf_files": len(crlf),
        "book_files": len(books),
        "left_out": dict(
            sorted(sum((Counter(t.facts.left_out) for t in books), Counter()).items())
        ),
        "named": {kind: found for kind, found in named.items() if found},
    }
    return Ledger.from_dict({**stored, **found_today})


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
