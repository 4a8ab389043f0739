"""Texts too large to be prepared in passing -> what the first of them would be refused for.

Nothing is written: documents are encoded, looked at and forgotten.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gptft.data.encoded_conversations import encoded_batches
from gptft.data.pack import too_long
from gptft.data.plan import PackingPlan, store_path
from gptft.data.store import read_ledger
from gptft.documents.formats.registry import format_of
from gptft.documents.scan import ScannedText, Stamp, recall_scan, scan_texts
from gptft.documents.sources import VALIDATION, FoundTexts, TextInput
from gptft.text.encoding import FileFacts
from gptft.text.streams import NotTextError
from gptft.tokenization.batches import encodable_chunks, encode_batches
from gptft.tokenization.encoder import Engine, TokenizersEngine
from gptft.tokenization.tokenizer import TextTokenizer


@dataclass(frozen=True)
class _Length:
    """A document, and how many tokens it has in a block.

    Attributes:
        name: as messages show it.
        num_tokens: BOS and EOS among them.
        num_bytes: of its text.
    """

    name: str
    num_tokens: int
    num_bytes: int


def is_prepared(plan: PackingPlan, found: FoundTexts) -> bool:
    """Whether the blocks of some texts are there, so that all was found right; nothing is read.

    Raises:
        DataError: a file is gone.
    """
    texts = recall_scan(found.texts, plan.data, cache_dir=plan.cache_dir)
    return texts is not None and read_ledger(store_path(plan, texts)) is not None


def try_texts(plan: PackingPlan, found: FoundTexts, *, at_most: int) -> int:
    """Encode the first documents of some texts, by a tokenizer that is there.

    Args:
        plan: how they are to be packed.
        found: the texts; datasets of the hub are left out, and so is the rest from a file on that
            shows only in its middle that it isn't UTF-8.
        at_most: bytes of text.

    Returns:
        bytes of the documents that were encoded, none of which is refused.

    Raises:
        DataError: one would be: its record is wrong, its template can't write it, it is longer
            than a block and is not to be split.
        ModelError: the tokenizer has no EOS.
    """
    if plan.tokenizer is None:
        return 0
    refuses = plan.data.long_documents == "refuse" and plan.packing == "best_fit"
    long: list[_Length] = []
    done = 0
    try:
        for one in _lengths(
            plan, plan.tokenizer, _openable(plan, found.texts, at_most), at_most=at_most
        ):
            done += one.num_bytes
            if refuses and one.num_tokens > plan.block_size:
                long.append(one)
            if done >= at_most:
                break
    except NotTextError:  # in another encoding, which scanning all of it recognises
        pass
    if long:
        longest = max(long, key=lambda one: one.num_tokens)
        raise too_long(
            len(long), longest=longest.name, num_tokens=longest.num_tokens,
            block_size=plan.block_size,
        )  # fmt: skip
    return done


def _openable(plan: PackingPlan, texts: Sequence[TextInput], at_most: int) -> Iterator[ScannedText]:
    """The files of which every document is sure to be in a block; a large one isn't read for it."""
    data = plan.data
    for text in texts:
        is_whole = text.number == VALIDATION or data.train[text.number].weight >= 1
        if text.path is None or not is_whole:
            continue
        if text.num_bytes <= at_most:
            yield from scan_texts([text], data, cache_dir=plan.cache_dir)
            continue
        named = data.encoding if data.encoding not in ("auto", "utf-8") else "utf-8-sig"
        encoding = "binary" if format_of(text.path).is_binary else named
        yield ScannedText(text, FileFacts("", 0, encoding, 0), Stamp.of(text.path))


def _lengths(
    plan: PackingPlan, tokenizer: TextTokenizer, texts: Iterator[ScannedText], *, at_most: int
) -> Iterator[_Length]:
    for text in texts:
        if plan.chat is None:
            yield from _of_documents(plan, text, TokenizersEngine(tokenizer), at_most=at_most)
            continue
        batches = encoded_batches([text], plan.data, plan.chat, tokenizer)
        learned = (one for batch in batches for one in batch if any(one.learned))
        for number, one in enumerate(learned, start=1):
            name = f"{text.source.name}, document {number:,}"
            yield _Length(name, len(one.ids) + len(plan.bos), len(one.text.encode()))


def _of_documents(
    plan: PackingPlan, text: ScannedText, engine: Engine, *, at_most: int
) -> Iterator[_Length]:
    """Each document of a text, in order; of one with so many bytes its beginning, and no more."""
    frame = len(plan.bos) + 1  # EOS
    number, tokens, num_bytes = 1, 0, 0
    for batch, (_, lengths) in encode_batches(encodable_chunks([text], plan.data, engine), engine):
        for chunk, ends, length in zip(batch.texts, batch.ends, lengths.tolist(), strict=True):
            tokens, num_bytes = tokens + length, num_bytes + len(chunk.encode())
            if num_bytes and (ends or num_bytes >= at_most):
                yield _Length(f"{text.source.name}, document {number:,}", tokens + frame, num_bytes)
                number, tokens = number + 1, 0
                if not ends:
                    return
                num_bytes = 0
