"""A corpus -> passages to learn from and to measure on, and what the latter cost in a tokenizer.

The draw is the same on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gptft.config.data import DataConfig
from gptft.documents.corpus import find_corpus
from gptft.documents.formats.plain_text import Chunk
from gptft.documents.held_out import Mask, draw_validation
from gptft.documents.scan import Progress, ScannedText
from gptft.errors import DataError
from gptft.files import JsonFields
from gptft.tokenization.batches import encode_batches, read_passages
from gptft.tokenization.encoder import Engine, choose_engine, with_engine
from gptft.tokenization.tokenizer import TextTokenizer

_DECODED_CHARACTERS = 1_000_000  # so much held-out text is decoded again, to see that it survives


@dataclass(frozen=True)
class SplitCorpus:
    """A corpus of which some passages are held out.

    A passage is a document, or up to 10,000 characters of a longer one.

    Attributes:
        texts: its files.
        data: how they are read.
        mask: by passage, whether it is held out. None is where nothing was asked to be held out or
            there is one passage only; then all is learned from and measured on.
    """

    texts: Sequence[ScannedText]
    data: DataConfig
    mask: Mask

    @cached_property
    def num_held_out(self) -> int:
        """Held-out passages."""
        return int(np.count_nonzero(self.mask))

    @property
    def num_passages(self) -> int:
        """All passages."""
        return len(self.mask)

    def training(self, stage: str, progress: Progress | None = None) -> Iterator[str]:
        """The passages to learn from; `progress` is told (`stage`, bytes done, bytes in all)."""
        return self._passages(False, stage, progress)

    def held_out(self, stage: str, progress: Progress | None = None) -> Iterator[str]:
        """The passages to measure on: all of them where none is held out."""
        return self._passages(self.num_held_out > 0, stage, progress)

    def _passages(self, wanted: bool, stage: str, progress: Progress | None) -> Iterator[str]:
        sizes = [text.facts.num_bytes for text in self.texts]
        total, before = sum(sizes), np.cumsum([0, *sizes]).tolist()
        done = 0
        for (number, passage), held in zip(
            read_passages(self.texts, self.data), self.mask.tolist(), strict=True
        ):
            if progress:
                done = max(done, before[number]) + len(passage.encode())
                progress(stage, min(done, before[number + 1]), total)
            if held == wanted:
                yield passage


@dataclass(frozen=True)
class Cost(JsonFields):
    """What a tokenizer makes of held-out text.

    Attributes:
        name: the tokenizer's.
        vocab_size: one more than its highest id.
        tokens: what the text costs.
        bytes: of the text, as UTF-8.
        checked: passages that were decoded again.
        returned: how many of them came back as they were.
    """

    json_also = ("bytes_per_token", "lossless")

    name: str
    vocab_size: int
    tokens: int
    bytes: int
    checked: int
    returned: int

    @property
    def bytes_per_token(self) -> float:
        """0 for an empty text."""
        return self.bytes / max(self.tokens, 1)

    @property
    def lossless(self) -> bool:
        """Whether every passage that was decoded again came back as it was."""
        return self.checked == self.returned


def split_corpus(
    names: Sequence[str],
    *,
    held_out: float,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> SplitCorpus:
    """Find a corpus and draw the passages that are held out, at least one of two.

    Args:
        names: files, folders, globs and `hub:` datasets.
        held_out: the share of the passages, 0 to below 1.
        cache_dir: where scans are remembered; the user's own cache by default.
        progress: told ("reading", bytes done, bytes in all).

    Raises:
        DataError: texts are missing, can't be read, or hold nothing.
    """
    data, texts, _ = find_corpus(names, cache_dir=cache_dir, progress=progress)
    number = sum(1 for _ in read_passages(texts, data))
    if not number:
        raise DataError(f"{', '.join(names)}: there is no text in it, only empty documents.")
    mask: Mask = np.zeros(number, dtype=np.bool_)
    if held_out and number > 1:
        mask = draw_validation(number, data, fraction=held_out)
    return SplitCorpus(texts, data, mask)


def measure_cost(
    tokenizer: TextTokenizer, corpus: SplitCorpus, *, progress: Progress | None = None
) -> Cost:
    """Encode the held-out part, and decode the first million characters of it again."""
    return with_engine(
        choose_engine(tokenizer),
        tokenizer,
        lambda engine: _measure(tokenizer, corpus, engine, progress),
    )


def _measure(
    tokenizer: TextTokenizer, corpus: SplitCorpus, engine: Engine, progress: Progress | None
) -> Cost:
    tokens = num_bytes = checked = returned = characters = 0
    passages = corpus.held_out(f"measuring {tokenizer.name}", progress)
    chunks = ((0, Chunk(passage, True)) for passage in passages)
    for batch, (ids, lengths) in encode_batches(chunks, engine):
        tokens += len(ids)
        num_bytes += sum(len(text.encode()) for text in batch.texts)
        if characters < _DECODED_CHARACTERS:
            stops = np.cumsum(lengths)[:-1]
            split = [part.tolist() for part in np.split(ids, stops)]
            with tokenizer.explained("decode what it encoded"):
                decoded = tokenizer.backend.decode_batch(split, skip_special_tokens=False)
            checked += len(batch.texts)
            returned += sum(a == b for a, b in zip(batch.texts, decoded, strict=True))
            characters += sum(map(len, batch.texts))
    return Cost(tokenizer.name, tokenizer.vocab_size, tokens, num_bytes, checked, returned)
