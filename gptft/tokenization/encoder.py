"""A tokenizer and texts -> token ids, exactly those of the `tokenizers` library.

The `fastokens` engine is used where it agrees with it, which is checked on samples of the very text
that is encoded, all along.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import accumulate, chain
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gptft.console import Notify, silent
from gptft.errors import DataError
from gptft.panics import no_panic
from gptft.tokenization.token_ids import TokenIds, token_dtype
from gptft.tokenization.tokenizer import TextTokenizer

Lengths = npt.NDArray[np.int64]
T = TypeVar("T")

_SAMPLE_CHARACTERS = 500  # a sample of the text that both engines encode
_SAMPLE_EVERY = 1_000_000  # characters of text to one sample: 0.05 %, a twentieth of the time
_FIRST_SAMPLES = 16  # from the first batch, so that a disagreement shows at once
_CUT_CONTEXT = 200  # characters on either side of a cut that must encode as they do uncut
_CUT_WINDOW = 20_000  # characters in which a place to cut is looked for
_CUT_CANDIDATES = 50
_LONGEST_UNCUT = 16_000_000  # characters; encoding so many at once takes gigabytes
_ALL_SCRIPTS = [  # a few characters of each block of Unicode, and a word of them
    "".join(map(chr, [*range(start, start + 4), 32, *range(start + 64, start + 67), 10]))
    for start in [*range(0, 0xD800, 128), *range(0xE000, 0x20000, 512), 0xE0020, 0x10FF00]
]
_BEFORE_SPACE = re.compile(r"\S(?=[ \n])")


class EngineDisagreesError(Exception):
    """The fast engine gave other ids than `tokenizers`; nothing it gave is to be used."""


class Engine(Protocol):
    """What turns texts into ids.

    Attributes:
        name: with its version, as the ledger has it.
        workers: how many threads may call `encode` at a time.
        batch_characters: how much text to give it at once.
        cut_characters: a document longer than this is encoded in chunks.
    """

    name: str
    workers: int
    batch_characters: int
    cut_characters: int

    def encode(self, texts: Sequence[str]) -> tuple[TokenIds, Lengths]:
        """The ids of all texts in one array, and how many each has."""
        ...

    def probe(self, text: str) -> TokenIds:
        """The ids of one short text."""
        ...


class TokenizersEngine:
    """The `tokenizers` library, the reference: right for every tokenizer."""

    workers = 1  # it has threads of its own
    batch_characters = 1_000_000  # its encodings take 100 times their text
    cut_characters = 250_000

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.name = slow_engine_name()
        self._tokenizer = tokenizer
        self._dtype = token_dtype(tokenizer.vocab_size)

    def encode(self, texts: Sequence[str]) -> tuple[TokenIds, Lengths]:
        """The ids of all texts in one array, and how many each has.

        Raises:
            ModelError: the tokenizer can't encode one of them.
        """
        backend = self._tokenizer.backend
        with self._tokenizer.explained():
            encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        lengths = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
        ids = chain.from_iterable(encoding.ids for encoding in encodings)
        return np.fromiter(ids, self._dtype, count=int(lengths.sum())), lengths

    def probe(self, text: str) -> TokenIds:
        """The ids of one short text."""
        return self.encode([text])[0]


class FastokensEngine:
    """`fastokens`, ten times as fast, with samples of the text checked against `tokenizers`.

    Its own threads share one text; one thread a batch does more with the same cores.
    """

    batch_characters = 500_000
    cut_characters = 500_000

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Open the tokenizer a second time, in fastokens.

        Raises:
            ImportError: fastokens isn't there, as on platforms it has no wheel for.
            EngineDisagreesError: it can't open the tokenizer, or reads special tokens otherwise.
        """
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # read when it is first used
        from fastokens import Tokenizer

        self.workers = _num_cores()
        self._sampling = Lock()
        self.name = f"fastokens {version('fastokens')}"
        self._reference = TokenizersEngine(tokenizer)
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._unsampled = 0
        self._samples_due = _FIRST_SAMPLES
        try:
            with no_panic():
                self._fast: Any = Tokenizer.from_json_str(tokenizer.backend.to_str())
        except Exception as error:  # it raises what it likes
            raise EngineDisagreesError(f"it can't open this tokenizer: {error}") from None
        specials = [f"a{token} {token}б" for token in tokenizer.special_tokens.values()]
        self._check([*specials, "".join(specials), *_ALL_SCRIPTS])

    def encode(self, texts: Sequence[str]) -> tuple[TokenIds, Lengths]:
        """The ids of all texts in one array, and how many each has.

        Raises:
            EngineDisagreesError: a sample of these texts has other ids in `tokenizers`.
        """
        with self._sampling:
            samples = self._samples(texts)
        if samples:
            self._check(samples)
        return self._encode(texts)

    def probe(self, text: str) -> TokenIds:
        """The ids of one short text."""
        return self._encode([text])[0]

    def _encode(self, texts: Sequence[str]) -> tuple[TokenIds, Lengths]:
        try:
            with no_panic():
                ids, offsets = self._fast.encode_batch_flat(texts, False, True)
        except Exception as error:  # its regular expressions have limits
            raise EngineDisagreesError(f"it failed: {error}") from None
        # (N + 1,) for N texts: where each begins among the ids, and the end of the last.
        stops = np.frombuffer(offsets, dtype="<u8").astype(np.int64)
        return np.frombuffer(ids, dtype="<u4").astype(self._dtype), np.diff(stops)

    def _samples(self, texts: Sequence[str]) -> list[str]:
        """Stretches of these texts, evenly spread over all text that comes by."""
        starts = [0, *accumulate(map(len, texts))]
        self._unsampled += starts[-1]
        due, self._unsampled = divmod(self._unsampled, _SAMPLE_EVERY)
        due, self._samples_due = max(due, self._samples_due), 0
        samples: dict[str, None] = {}
        for number in range(due):
            place = number * starts[-1] // due
            text = texts[index := bisect_right(starts, place, hi=len(texts)) - 1]
            start = min(place - starts[index], max(len(text) - _SAMPLE_CHARACTERS, 0))
            samples[text[start : start + _SAMPLE_CHARACTERS]] = None
        return [*samples]

    def _check(self, texts: Sequence[str]) -> None:
        ids, lengths = self._encode(texts)
        right, right_lengths = self._reference.encode(texts)
        if not (np.array_equal(ids, right) and np.array_equal(lengths, right_lengths)):
            raise EngineDisagreesError("its ids differ from those of tokenizers on this text")


def slow_engine_name() -> str:
    """`tokenizers` with its version, as the ledger has it."""
    return f"tokenizers {version('tokenizers')}"


def _num_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_engine(tokenizer: TextTokenizer, notify: Notify = silent) -> Engine:
    """The fast engine where it can be had and opens this tokenizer, else `tokenizers`.

    Args:
        tokenizer: what is to encode.
        notify: told in a sentence why it isn't the fast one, where it isn't.
    """
    try:
        return FastokensEngine(tokenizer)
    except ImportError:
        notify(
            "The fastokens package isn't installed: tokenizing takes about ten times as long. "
            "pip install fastokens"
        )
    except EngineDisagreesError as error:
        notify(_reason_for_slow_engine(error))
    return TokenizersEngine(tokenizer)


def with_engine(
    engine: Engine,
    tokenizer: TextTokenizer,
    work: Callable[[Engine], T],
    notify: Notify = silent,
) -> T:
    """The result of `work`, done again with `tokenizers` where `engine` gives other ids than it."""
    try:
        return work(engine)
    except EngineDisagreesError as error:
        notify(_reason_for_slow_engine(error))
        return work(TokenizersEngine(tokenizer))


def _reason_for_slow_engine(error: EngineDisagreesError) -> str:
    return (
        f"fastokens isn't used: {error}. The tokenizers library does the work; the ids are right, "
        "it takes about ten times as long."
    )


def find_cut(text: str, *, before: int, engine: Engine, name: str) -> int | None:
    """A place to cut a long document so that both sides encode to the ids of the whole.

    Only places between a word and a space or line end are tried, and each is proved: what stands
    around it must encode cut as it does uncut. Tokenizers that treat the beginning of a text in
    their own way fail that proof everywhere, and their documents stay uncut.

    Args:
        text: a stretch of a document.
        before: the cut is at this place or up to 20,000 characters before it.
        engine: what will encode both sides.
        name: of the file, for messages.

    Raises:
        DataError: no such place, in a text too long to encode uncut.
    """
    start = max(before - _CUT_WINDOW, 1)
    end = min(before, len(text) - _CUT_CONTEXT)
    places = [match.end() for match in _BEFORE_SPACE.finditer(text, start - 1, end)]
    for place in reversed(places[-_CUT_CANDIDATES:]):
        left = text[max(place - _CUT_CONTEXT, 0) : place]
        right = text[place : place + _CUT_CONTEXT]
        apart = np.concatenate([engine.probe(left), engine.probe(right)])
        if np.array_equal(engine.probe(left + right), apart):
            return place
    if len(text) > _LONGEST_UNCUT:
        raise DataError(
            f"{name}: {len(text):,} characters without a place to cut them for encoding, more than "
            f"the {_LONGEST_UNCUT:,} that can be encoded at once. Is it a text? "
            "Set data.document_separator or data.document_heading, or leave it out with "
            "data.exclude."
        )
    return None


def find_first_cut(text: str, *, engine: Engine, name: str) -> int | None:
    """Where to cut a document too long for one call: near the engine's limit, else near its end.

    Raises:
        DataError: see `find_cut`.
    """
    place = find_cut(text, before=engine.cut_characters, engine=engine, name=name)
    if place is None:  # a stretch without spaces; perhaps it has ended by now
        place = find_cut(text, before=len(text), engine=engine, name=name)
    return place
