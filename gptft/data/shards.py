"""A packing plan and which of how many shards -> encoded documents in a cache that processes share.

Merged, they are the very block store that `prepare_blocks` makes of the whole corpus.
"""

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from gptft.console import Notify, silent
from gptft.data.encode import encode_texts
from gptft.data.encoded_documents import EncodedDocuments
from gptft.data.pack import Prepared, explained_disk, find_ledger, find_or_pack
from gptft.data.plan import PackingPlan, format_version, how_read, store_path
from gptft.data.store import commit_store, find_damage, read_ledger, staging_folder
from gptft.documents.scan import (
    Progress,
    ScannedText,
    Stamp,
    recall_scan,
    remember_scan,
    scan_texts,
)
from gptft.documents.sources import FoundTexts, TextInput
from gptft.errors import ConfigError, DataError
from gptft.files import JsonFields, json_checksum
from gptft.terminal.words import count, first_of
from gptft.tokenization.tokenizer import TextTokenizer

_FORMAT = 2  # of a shard; part of its address, so that an older gptft's shard is never misread
_FOLDER = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Shard:
    """One of several shards of a corpus.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `2/16`.

        Raises:
            ConfigError: it isn't two numbers, the first from 1 to the second.

        >>> Shard.parse("2/16")
        Shard(number=2, of=16)
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(
                f"--shard {text}: write it as i/n with i from 1 to n, and n up to 999,999, such as "
                "--shard 3/16."
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class PreparedShard(JsonFields):
    """A shard on disk, ready to be merged.

    Attributes:
        shard: which it is.
        path: its folder.
        counts: files, documents, empty_documents, bytes, characters and tokens in it, and engine.
        cached: whether it was there already.
        seconds: how long this call took.
    """

    shard: Shard
    path: Path
    counts: dict[str, Any]
    cached: bool
    seconds: float

    json_names = ("cached", "seconds", "mb_per_s", "path")
    json_digits: ClassVar = {"seconds": 3, "mb_per_s": 3}

    @property
    def mb_per_s(self) -> float:
        """Megabytes of text a second, in `seconds`."""
        return float(self.counts["bytes"] / max(self.seconds, 1e-9) / 1e6)

    def json_fields(self) -> dict[str, Any]:
        """The shard, what is in it, and what this call did, by name."""
        return {"shard": str(self.shard), **self.counts, **super().json_fields()}

    def sentences(self) -> list[str]:
        """The account in plain words."""
        counts = self.counts
        how = "found in the cache" if self.cached else f"{self.seconds:.2f} s"
        return [
            f"Shard {self.shard}: files {counts['files']:,}, documents {counts['documents']:,}, "
            f"bytes {counts['bytes']:,}, tokens {counts['tokens']:,}.",
            f"Encoded: {self.path} ({how}, by {counts['engine']}).",
        ]


def shard_texts(texts: Sequence[TextInput], shard: Shard) -> list[TextInput]:
    """The texts of one shard: a stretch of the list, of about the same size as the others.

    Args:
        texts: all texts, in order.
        shard: which stretch; with more shards than texts some are empty.
    """
    sizes = [Stamp.of(t.path).size if t.path is not None else 0 for t in texts]
    # One more each, so that empty files are spread, too.
    *starts, total = accumulate((size + 1 for size in sizes), initial=0)
    places = [start * shard.of // total for start in starts]
    return [text for text, place in zip(texts, places, strict=True) if place == shard.number - 1]


def prepare_shard(
    plan: PackingPlan, shard: Shard, *, progress: Progress | None = None, notify: Notify = silent
) -> PreparedShard:
    """Read and encode the texts of one shard; nothing is held out or packed yet.

    Raises:
        ConfigError: the tokenizer is to be trained, which takes the whole corpus.
        DataError: texts are missing or unreadable.
        RunError: the disk is full.
    """
    started = time.perf_counter()
    tokenizer = plan.tokenizer
    if tokenizer is None:
        raise ConfigError(
            "tokenizer.train needs the whole corpus, and --shard sees a part of it. Train the "
            "tokenizer first, with gptft prepare on a sample, and name its folder as "
            "tokenizer.name."
        )
    found = plan.texts()
    final = _folder(plan, found) / f"{shard.number}-of-{shard.of}"
    with explained_disk(plan.cache_dir):
        ours = shard_texts(found.texts, shard)
        texts = scan_texts(ours, plan.data, cache_dir=plan.cache_dir, progress=progress)
        rows = [text.as_row() for text in texts]
        kept = read_ledger(final)
        cached = kept is not None and kept["texts"] == rows and find_damage(final) is None
        if not cached:
            shutil.rmtree(final, ignore_errors=True)
            with staging_folder(final.parent) as staging:
                encode_texts(plan, texts, tokenizer, staging, progress=progress, notify=notify)
                counts = _counts(EncodedDocuments(staging), texts)
                commit_store(staging, final, ledger={"counts": counts, "texts": rows})
            kept = read_ledger(final)
    counts = kept["counts"] if kept else {}
    return PreparedShard(shard, final, counts, cached, time.perf_counter() - started)


def merge_shards(plan: PackingPlan, *, notify: Notify = silent) -> Prepared:
    """Pack all shards into the block store that `prepare_blocks` makes of the whole corpus.

    The shards are removed when it is there.

    Raises:
        DataError: a shard is missing or damaged, or a text changed since.
        RunError: the disk is full.
    """
    started = time.perf_counter()
    found = plan.texts()
    folder = _folder(plan, found)
    tokenizer = plan.tokenizer
    if tokenizer is None:
        raise ConfigError("tokenizer.train can't be merged: name a tokenizer that is there.")
    if not folder.is_dir():
        return _merged_before(plan, found, started=started, notify=notify)
    folders = _complete_set(folder)
    texts = _texts_of(folders, found)

    def encode(staging: Path, scratch: Path) -> tuple[TextTokenizer, list[EncodedDocuments]]:
        return tokenizer, [EncodedDocuments(path) for path in folders]

    with explained_disk(plan.cache_dir):
        remember_scan(texts, plan.data, cache_dir=plan.cache_dir)
        prepared = find_or_pack(
            plan, texts, encode, skipped=found.skipped, started=started, notify=notify
        )
    shutil.rmtree(folder, ignore_errors=True)
    return prepared


def _merged_before(
    plan: PackingPlan, found: FoundTexts, *, started: float, notify: Notify
) -> Prepared:
    """The store that these shards have become already.

    Raises:
        DataError: they haven't.
    """
    texts = recall_scan(found.texts, plan.data, cache_dir=plan.cache_dir)
    if texts is not None:
        store_dir = store_path(plan, texts)
        ledger = find_ledger(plan, store_dir, texts, skipped=found.skipped, notify=notify)
        if ledger is not None:
            return Prepared(store_dir, ledger, True, time.perf_counter() - started)
    raise DataError(
        f"There are no shards of these texts in {plan.cache_dir / 'shards'}. Make them with "
        "gptft prepare --shard i/n, on the same files, the same config and the same cache."
    )


def _folder(plan: PackingPlan, found: FoundTexts) -> Path:
    """Where the shards of these texts are: named by what is known without reading them."""
    content = {
        "format": _FORMAT,
        "texts": [
            [t.name, t.number, t.num_bytes if t.path else None, *format_version(t.path)]
            for t in found.texts
        ],
        "reading": [*how_read(plan.data), plan.data.encoding],
        "tokenizer": plan.tokenizer_key,
    }
    if plan.chat is not None:  # else shards made before conversations could be are still found
        content["chat"] = plan.chat.key
    return plan.cache_dir / "shards" / json_checksum(content)[:32]


def _complete_set(folder: Path) -> list[Path]:
    """The folders of a whole set of shards, in order.

    Raises:
        DataError: some are missing or damaged.
    """
    sets: dict[int, dict[int, Path]] = {}
    for path in folder.iterdir():
        if match := _FOLDER.fullmatch(path.name):
            sets.setdefault(int(match[2]), {})[int(match[1])] = path
    if not sets:
        raise DataError(f"{folder} holds no finished shard. Make them with --shard i/n.")
    of = min(sets, key=lambda of: (of - len(sets[of]), of))
    missing = [f"{number}/{of}" for number in range(1, of + 1) if number not in sets[of]]
    if missing:
        raise DataError(
            f"{len(sets[of])} of {of} shards are there; missing: {first_of(missing, 5)}. "
            f"Make {'it' if len(missing) == 1 else 'them'} with --shard {missing[0]}"
            f"{'' if len(missing) == 1 else ' and so on'}."
        )
    folders = [sets[of][number] for number in range(1, of + 1)]
    damaged = {path.name: damage for path in folders if (damage := find_damage(path)) is not None}
    if damaged:
        name, damage = next(iter(damaged.items()))
        raise DataError(
            f"{len(damaged)} of {of} shards are damaged, {first_of([*damaged], 5)}: {damage}. Make "
            f"them again with --shard {name.replace('-of-', '/')} and so on."
        )
    return folders


def _texts_of(folders: Sequence[Path], found: FoundTexts) -> list[ScannedText]:
    """The scan that the shards made of all texts.

    Raises:
        DataError: they aren't the texts of now.
    """
    rows = [row for path in folders for row in (read_ledger(path) or {"texts": []})["texts"]]
    if len(rows) != len(found.texts):
        raise DataError(
            f"The shards hold {count(len(rows), 'text')}, the config names {len(found.texts):,}. "
            "Make them again."
        )
    texts = [ScannedText.from_row(*pair) for pair in zip(found.texts, rows, strict=True)]
    for text in texts:
        if text.source.path is None or text.stamp is None:
            continue
        now = Stamp.of(text.source.path)  # another machine may see another inode
        if (now.size, now.mtime_ns) != (text.stamp.size, text.stamp.mtime_ns):
            raise DataError(f"{text.source.name} changed since its shard was made. Make it again.")
    return texts


def _counts(encoded: EncodedDocuments, texts: Sequence[ScannedText]) -> dict[str, Any]:
    return {
        "files": len(texts),
        "documents": sum(encoded.stats.documents),
        "empty_documents": sum(encoded.stats.empty),
        **{name: int(encoded.rows[name].sum()) for name in ("bytes", "characters", "tokens")},
        "engine": encoded.stats.engine,
    }
