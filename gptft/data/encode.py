"""A packing plan and scanned texts -> their documents or conversations as ids on disk."""

from collections.abc import Sequence
from pathlib import Path

from gptft.console import Notify
from gptft.data.encoded_conversations import encode_conversations
from gptft.data.encoded_documents import EncodedStats, encode_documents
from gptft.data.plan import PackingPlan
from gptft.documents.scan import Progress, ScannedText
from gptft.tokenization.encoder import Engine
from gptft.tokenization.tokenizer import TextTokenizer


def encode_texts(
    plan: PackingPlan,
    texts: Sequence[ScannedText],
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
    notify: Notify,
) -> EncodedStats:
    """Read and encode all of `texts` into `folder`; see the two ways of doing it.

    Raises:
        DataError: a text can't be read, or changed since it was scanned; a record is wrong.
        ModelError: the tokenizer has no EOS.
    """
    if plan.chat is not None:
        return encode_conversations(
            texts, plan.data, plan.chat, tokenizer, folder, progress=progress
        )
    return encode_documents(
        texts, plan.data, tokenizer, folder, engine=engine, progress=progress, notify=notify
    )
