"""Encoded documents made by hand, as text and as conversations give them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from gptft.config.data import DataConfig
from gptft.config.sections import Config
from gptft.data.encoded_documents import (
    DOCUMENT,
    EncodedDocuments,
    EncodedStats,
    encode_documents,
)
from gptft.data.fitted_blocks import Framing, write_fitted
from gptft.data.pack import Prepared
from gptft.data.plan import PackingPlan, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.row_files import Rows
from gptft.data.split import Split, SplitName
from gptft.data.store import SplitSize, write_split
from gptft.files import write_json

EOS, BOS = 0, 1
TRAINED = 1 << 31
Documents = Sequence[Sequence[int]]


def write_encoded(folder: Path, texts: Sequence[Documents], *, marked: bool) -> EncodedDocuments:
    """Write documents, each ended by EOS, of several texts; marked ids have TRAINED in them."""
    folder.mkdir(parents=True)
    documents = [document for text in texts for document in text]
    dtype = np.uint32 if marked else np.uint16
    flat = np.array([i for document in documents for i in document], np.int64).astype(dtype)
    rows = [
        (len(one) - 1, 2 * len(one), len(one), xxhash.xxh3_64(str(one).encode()).intdigest())
        for one in documents
    ]
    (folder / "tokens.bin").write_bytes(flat.tobytes())
    (folder / "documents.bin").write_bytes(np.array(rows, dtype=DOCUMENT).tobytes())
    counts, empty = tuple(len(text) for text in texts), (0,) * len(texts)
    stats = EncodedStats("hand", np.dtype(dtype).name, counts, empty, marked)
    write_json(folder / "encoded.json", stats)
    return EncodedDocuments(folder)


def split_of(
    encoded: Sequence[EncodedDocuments], *, bos: Sequence[int] = (), **settings: object
) -> Split:
    """A split of documents that are all of the first source, unless `train` names more."""
    data = DataConfig.model_validate({"train": ["x"], **settings})
    num_texts = sum(len(one.stats.documents) for one in encoded)
    numbers = [min(number, len(data.train) - 1) for number in range(num_texts)]
    return Split(encoded, numbers, data, bos=bos)


def write_store(
    folder: Path,
    split: Split,
    *,
    packing: str,
    name: SplitName = "train",
    block_size: int = 8,
    bos: Sequence[int] = (),
    keep_tail: bool = True,
) -> SplitSize:
    """Write one split as `gptft.data.pack` does."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16
    if packing == "best_fit":
        return write_fitted(
            split, folder, name=name, framing=Framing(bos, EOS), block_size=block_size,
            dtype=dtype, keep_tail=keep_tail,
        )  # fmt: skip
    return write_split(
        split.marked_ids(name) if split.is_marked else split.token_ids(name),
        folder, split=name, block_size=block_size, dtype=dtype, keep_tail=keep_tail,
        as_rows=Rows.of_marked if split.is_marked else Rows,
    )  # fmt: skip


def prepare_masked(config: Config) -> tuple[PackingPlan, Prepared]:
    """Prepare texts as if they were conversations, of which not every token is trained on.

    Tokens 0, 3, 6 and so on of each document aren't, and neither is its EOS.
    """

    def encode(texts: Any, data: Any, tokenizer: Any, folder: Path, **settings: Any) -> Any:
        stats = encode_documents(texts, data, tokenizer, folder, **settings)
        made = EncodedDocuments(folder)
        marks = [np.append(np.arange(int(n)) % 3 != 0, False) for n in made.rows["tokens"].tolist()]
        ids = np.array(made.mapped_ids()).astype(np.uint32)
        ids |= np.where(np.concatenate(marks), np.uint32(TRAINED), np.uint32(0))
        (folder / "tokens.bin").write_bytes(ids.tobytes())
        marked = replace(stats, dtype="uint32", marked=True)
        write_json(folder / "encoded.json", marked)
        return marked

    plan = replace(plan_packing(config), is_masked=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gptft.data.encode.encode_documents", encode)
        return plan, prepare_blocks(plan)
