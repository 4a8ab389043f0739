"""A packing plan -> its block store: scan, encode, split, pack. What `gptft prepare` does."""

import time
from collections.abc import Sequence
from pathlib import Path

from gptft.console import Notify, silent
from gptft.data.encode import encode_texts
from gptft.data.encoded_documents import EncodedDocuments
from gptft.data.pack import Prepared, explained_disk, find_or_pack
from gptft.data.plan import PackingPlan, store_path
from gptft.documents.held_out import draw_validation
from gptft.documents.markup import markup_notices
from gptft.documents.read import whole_documents
from gptft.documents.scan import Progress, ScannedText, recall_scan, scan_texts
from gptft.documents.sources import VALIDATION
from gptft.errors import ConfigError
from gptft.tokenization.encoder import choose_engine
from gptft.tokenization.tokenizer import TextTokenizer, save_tokenizer
from gptft.tokenization.trainers import train_bpe


def prepare_blocks(
    plan: PackingPlan, *, progress: Progress | None = None, notify: Notify = silent
) -> Prepared:
    """Read, tokenize and pack texts into a block store, or find the one that is there.

    Args:
        plan: what decides the store.
        progress: called with (what is being done, bytes done, bytes in all) while it works.
        notify: told in a sentence what a user should know: a damaged store, a slower engine.

    Raises:
        DataError: texts are missing, unreadable or hold nothing to train on.
        ConfigError: the block size is beyond the model's context.
        ModelError: the tokenizer has no EOS, or doesn't fit the model.
        RunError: the disk is full.
    """
    plan.check()
    data, cache_dir = plan.data, plan.cache_dir
    found = plan.texts()
    for sentence in (*plan.said, *markup_notices(found.texts)):
        notify(sentence)
    texts = recall_scan(found.texts, data, cache_dir=cache_dir)
    is_new = texts is None or not store_path(plan, texts).exists()
    said: list[str] = []  # of the engine, told only where something is encoded
    engine = None
    if plan.tokenizer and is_new and plan.chat is None:
        engine = choose_engine(plan.tokenizer, said.append)
    started = time.perf_counter()
    with explained_disk(cache_dir):
        scanned = texts or scan_texts(found.texts, data, cache_dir=cache_dir, progress=progress)

        def encode(staging: Path, folder: Path) -> tuple[TextTokenizer, list[EncodedDocuments]]:
            tokenizer = plan.tokenizer or _train_tokenizer(plan, scanned, staging)
            for sentence in said:
                notify(sentence)
            encode_texts(
                plan, scanned, tokenizer, folder, engine=engine, progress=progress, notify=notify
            )
            return tokenizer, [EncodedDocuments(folder)]

        return find_or_pack(
            plan, scanned, encode, skipped=found.skipped, started=started, notify=notify
        )


def _train_tokenizer(
    plan: PackingPlan, texts: Sequence[ScannedText], folder: Path
) -> TextTokenizer:
    """Train the tokenizer on the training split, and write it beside the blocks in `folder`."""
    settings, data = plan.tokenizer_train, plan.data
    if settings is None:
        raise ConfigError("Name a model with a tokenizer, or set tokenizer.train.")
    ours = [text for text in texts if text.source.number != VALIDATION]
    documents = (document for text in ours for document in whole_documents(text, data))
    if isinstance(data.validation, float):
        number = sum(1 for text in ours for _ in whole_documents(text, data))
        held_out = draw_validation(number, data, fraction=data.validation).tolist()
        documents = (text for text, is_held in zip(documents, held_out, strict=True) if not is_held)
    tokenizer = train_bpe(
        documents, vocab_size=settings.vocab_size, min_frequency=settings.min_frequency
    )
    context = plan.context or plan.block_size
    save_tokenizer(tokenizer, folder / "tokenizer", model_max_length=context)
    return tokenizer
