"""A corpus and a tokenizer -> the token account: what the corpus holds, and what it costs.

Memory stays flat, and nothing is written but the scan of the files.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import nsmallest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gptft.config.data import DataConfig
from gptft.console import Notify, silent
from gptft.documents.corpus import find_corpus
from gptft.documents.scan import HUB_ENCODING, Progress, ScannedText
from gptft.files import JsonFields
from gptft.inspection.word_sample import SAMPLE_CHARACTERS, SampledWord, WordSample, script_counts
from gptft.tokenization.batches import Batch, measure_batches
from gptft.tokenization.encoder import Engine, choose_engine, with_engine
from gptft.tokenization.token_bytes import TokenBytes, fallback_byte, whole_text
from gptft.tokenization.tokenizer import TextTokenizer

Tally = npt.NDArray[np.int64]

_NAMED = 20  # of a kind of token or word that are named one by one
_UNICODE = 0x110000
_NEWLINE = ord("\n")
_CHUNK = 2**15  # code points that are counted at once: so many stay in a processor's cache
_EVERY_OF_HUB = 200


@dataclass(frozen=True)
class CountedToken(JsonFields):
    """A token that occurred.

    Attributes:
        id: its number in the vocabulary.
        bytes: what it stands for, as UTF-8.
        count: how often it occurred.
    """

    json_names = ("id", "text", "bytes", "count")

    id: int
    bytes: bytes
    count: int

    @property
    def text(self) -> str | None:
        """`bytes` as text; None where they aren't whole characters."""
        return whole_text(self.bytes)


@dataclass(frozen=True)
class Counts(JsonFields):
    """The token account of a corpus.

    Attributes:
        model: the tokenizer's name.
        files: files read.
        skipped: files of named folders that were skipped, by reason.
        documents: documents, empty ones left out.
        bytes: of text, as UTF-8.
        characters: Unicode code points.
        words: runs of anything but white space.
        tokens: without any special ones around documents.
        vocab_size: entries of the vocabulary.
        unused: how many of them no token of this corpus is.
        fallback_tokens: tokens that are bytes and not whole characters.
        fallback_bytes: the bytes of text they stand for.
        unknown_tokens: of text that the vocabulary has nothing for.
        scripts: characters by their Unicode script, the most first.
        frequent: the tokens seen most, the most first.
        longest: the longest tokens that occurred and are whole characters, by their number.
        worst_words: of the twentieth of the sampled words that is split most, the most frequent.
        sampled_words: distinct words in the sample.
        sampled_characters: how many characters words were sampled from; all else counts in full.
        engine: what encoded the text.
        seconds: from the first byte read to the last token counted; naming them is not in it.
    """

    json_also = ("bytes_per_token", "characters_per_token", "tokens_per_word", "sampled_share")

    model: str
    files: int
    skipped: Mapping[str, int]
    documents: int
    bytes: int
    characters: int
    words: int
    tokens: int
    vocab_size: int
    unused: int
    fallback_tokens: int
    fallback_bytes: int
    unknown_tokens: int
    scripts: Mapping[str, int]
    frequent: tuple[CountedToken, ...]
    longest: tuple[CountedToken, ...]
    worst_words: tuple[SampledWord, ...]
    sampled_words: int
    sampled_characters: int
    engine: str
    seconds: float

    @property
    def bytes_per_token(self) -> float | None:
        """None for a corpus without tokens."""
        return self.bytes / self.tokens if self.tokens else None

    @property
    def characters_per_token(self) -> float | None:
        """None for a corpus without tokens."""
        return self.characters / self.tokens if self.tokens else None

    @property
    def tokens_per_word(self) -> float | None:
        """None for a corpus without words."""
        return self.tokens / self.words if self.words else None

    @property
    def sampled_share(self) -> float:
        """Which share of all characters words were sampled from."""
        return self.sampled_characters / max(self.characters, 1)


@dataclass
class _Figures:
    """What was counted of some text.

    Attributes:
        tokens: how often each id occurs.
        characters: how often each code point occurs, up to the highest that does.
        words: runs of anything but white space.
        sample: words sampled from it.
    """

    tokens: Tally
    characters: Tally
    words: int = 0
    sample: WordSample = field(default_factory=WordSample)

    def add(self, other: "_Figures") -> None:
        self.tokens += other.tokens
        self.characters[: len(other.characters)] += other.characters
        self.words += other.words
        self.sample.add(other.sample)

    @property
    def num_bytes(self) -> int:
        """UTF-8 of the characters."""
        total = self.characters.sum()  # and one more for every width that a character exceeds
        return int(total + sum(self.characters[first:].sum() for first in (0x80, 0x800, 0x10000)))


def count_tokens(
    names: Sequence[str],
    tokenizer: TextTokenizer,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    notify: Notify = silent,
) -> Counts:
    """Count the tokens of a corpus, and what else its account needs.

    Args:
        names: files, folders, globs and `hub:` datasets.
        tokenizer: what encodes them.
        cache_dir: where scans of files are remembered; the user's own cache by default.
        progress: told ("reading" or "tokenizing", bytes done, bytes in all).
        notify: told in a sentence why the fast engine isn't used, where it isn't.

    Raises:
        DataError: texts are missing or can't be read.
    """
    engine = choose_engine(tokenizer, notify)
    started = time.perf_counter()
    data, texts, skipped = find_corpus(names, cache_dir=cache_dir, progress=progress)

    def measure(engine: Engine) -> tuple[str, int, _Figures]:
        return engine.name, *_count(texts, data, tokenizer, engine, progress)

    engine_name, documents, figures = with_engine(engine, tokenizer, measure, notify)
    seconds = time.perf_counter() - started
    used = _name_tokens(tokenizer, figures.tokens)
    # Parts of characters, and bytes as `<0x0A>`.
    entry_of = tokenizer.backend.id_to_token
    fallback = [t for t in used if t.text is None or t.bytes == fallback_byte(entry_of(t.id) or "")]
    whole = [token for token in used if token.text is not None]
    unknown = _unknown_id(tokenizer)
    num_entries = tokenizer.backend.get_vocab_size(with_added_tokens=True)
    return Counts(
        model=tokenizer.name,
        files=len(texts),
        skipped=skipped,
        documents=documents,
        bytes=figures.num_bytes,
        characters=int(figures.characters.sum()),
        words=figures.words,
        tokens=int(figures.tokens.sum()),
        vocab_size=num_entries,
        unused=num_entries - len(used),
        fallback_tokens=sum(token.count for token in fallback),
        fallback_bytes=sum(token.count * len(token.bytes) for token in fallback),
        unknown_tokens=0 if unknown is None else int(figures.tokens[unknown]),
        scripts=script_counts(figures.characters),
        frequent=_first(used, lambda token: token.count),
        longest=_first(whole, lambda token: len(token.text or "")),
        worst_words=figures.sample.worst(_NAMED),
        sampled_words=figures.sample.num_words,
        sampled_characters=figures.sample.num_characters,
        engine=engine_name,
        seconds=seconds,
    )


def _count(
    texts: Sequence[ScannedText],
    data: DataConfig,
    tokenizer: TextTokenizer,
    engine: Engine,
    progress: Progress | None,
) -> tuple[int, _Figures]:
    """The documents of some texts, and what was counted of them."""
    sizes = [text.facts.num_bytes for text in texts]
    total, read_before = sum(sizes), np.cumsum([0, *sizes]).tolist()
    every = max(1, total // SAMPLE_CHARACTERS)  # so many characters to one that is sampled
    if any(text.facts.encoding == HUB_ENCODING for text in texts):  # of no known size
        every = max(every, _EVERY_OF_HUB)

    def measure(batch: Batch) -> _Figures:
        ids, _ = engine.encode(batch.texts)
        tokens = np.bincount(ids, minlength=tokenizer.vocab_size)
        characters, words = _count_text(batch.texts)
        sample = WordSample.of(batch.texts, tokenizer.backend, start=batch.start, every=every)
        return _Figures(tokens, characters, words, sample)

    documents = num_bytes = 0
    figures = _Figures(
        np.zeros(tokenizer.vocab_size, dtype=np.int64), np.zeros(_UNICODE, dtype=np.int64)
    )
    for batch, found in measure_batches(texts, data, engine=engine, measure=measure):
        figures.add(found)
        documents += batch.num_documents
        num_bytes += found.num_bytes
        if progress:
            progress("tokenizing", min(max(read_before[batch.file], num_bytes), total), total)
    return documents, figures


def _count_text(texts: Sequence[str]) -> tuple[Tally, int]:
    """How often each code point occurs in some texts, and how many words they have."""
    points = np.frombuffer("\n".join(texts).encode("utf-32-le"), dtype="<u4")
    characters = np.zeros(int(points.max(initial=_NEWLINE)) + 1, dtype=np.int64)
    words, after_space = 0, True
    for start in range(0, len(points), _CHUNK):
        # As NumPy's own index type, which both `bincount` and `take` would make of it.
        chunk = points[start : start + _CHUNK].astype(np.intp)
        counted = np.bincount(chunk)
        characters[: len(counted)] += counted
        spaces = _spaces().take(chunk)
        words += int(np.count_nonzero(spaces[:-1] > spaces[1:]))  # white space, then none
        words += int(after_space and not spaces[0])
        after_space = bool(spaces[-1])
    characters[_NEWLINE] -= len(texts) - 1  # those put between the texts
    return characters, words


@cache
def _spaces() -> npt.NDArray[np.bool_]:
    """Whether each code point is white space; U+3000 is the last that is."""
    spaces = np.zeros(_UNICODE, dtype=np.bool_)
    spaces[[point for point in range(0x3001) if chr(point).isspace()]] = True
    return spaces


def _name_tokens(tokenizer: TextTokenizer, tally: Tally) -> list[CountedToken]:
    """The tokens that occurred, by id."""
    used = np.flatnonzero(tally).tolist()
    raws = TokenBytes.of(tokenizer.backend).of_ids(used, at_start=False)
    return [CountedToken(i, raw, int(tally[i])) for i, raw in zip(used, raws, strict=True)]


def _first(
    tokens: Iterable[CountedToken], size: Callable[[CountedToken], int]
) -> tuple[CountedToken, ...]:
    return tuple(nsmallest(_NAMED, tokens, key=lambda token: (-size(token), token.id)))


def _unknown_id(tokenizer: TextTokenizer) -> int | None:
    """The id of text the vocabulary has nothing for, where there is one."""
    token = getattr(tokenizer.backend.model, "unk_token", None)
    return tokenizer.backend.token_to_id(token or tokenizer.special_tokens.get("unk_token", ""))
