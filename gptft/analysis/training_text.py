"""The text a run was trained on, as tokens: what of other texts is copied from it, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from gptft.analysis.ngram_search import Copied, find_copies
from gptft.analysis.run_names import StartingPlace
from gptft.analysis.span_places import Place, WantedSpan, find_spans
from gptft.config.sections import Config
from gptft.console import Notify, silent, stage
from gptft.data.plan import PackingPlan, plan_packing, store_path
from gptft.data.prepare import prepare_blocks
from gptft.data.store import BlockStore, find_damage, read_ledger
from gptft.documents.held_out import Mask, draw_validation
from gptft.documents.scan import ScannedText, scan_texts
from gptft.errors import GptftError, RunError
from gptft.files import default_cache_dir
from gptft.runs.model_folder import ADAPTER, MODEL
from gptft.runs.read import is_older_than_bos, require_facts
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.tokens import split_tokens

_CONTEXT = 48  # tokens on either side of a span that tell its place from others with the same words
_HELD_OUT_TOKENS = 4096  # in all: as many as a few dozen samples have, and quick to search
_SHORTEST_EXCERPT = 32  # tokens, so that there are 16-grams in it


@dataclass(frozen=True)
class WrittenText:
    """What a model wrote.

    Attributes:
        prompt: nothing of it is counted. Empty where it isn't known.
        continuation: what follows it.
    """

    prompt: str
    continuation: str


@dataclass(frozen=True)
class EncodedText:
    """The tokens of a continuation.

    Attributes:
        data: prompt and continuation, as UTF-8.
        ids: the tokens that begin in the continuation.
        spans: for each token, its first byte in `data` and one past its last.
    """

    data: bytes
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def quote(self, start: int, length: int) -> str:
        """The text of `length` tokens from `start` on; a character cut at an edge is left out."""
        if not length:
            return ""
        span = self.data[self.spans[start][0] : self.spans[start + length - 1][1]]
        return span.decode("utf-8", errors="ignore")

    def characters(self, pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Where tokens stand in prompt and continuation, in characters; cut ones are left out.

        Args:
            pieces: each a first token and one past the last one.
        """
        if not pieces:
            return []
        is_first = (np.frombuffer(self.data, np.uint8) & 0xC0) != 0x80  # byte of a character
        begun = np.concatenate([[0], np.cumsum(is_first)])  # characters, before each byte
        is_border = np.append(is_first, True)
        places = []
        for first, stop in pieces:
            start, end = self.spans[first][0], self.spans[stop - 1][1]
            places.append((int(begun[start]), int(begun[end] - (not is_border[end]))))
        return places


class TrainingText:
    """The text a run was trained on, as tokens.

    Attributes:
        num_tokens: of its training split, each document's EOS counted.
        tokenizer: what encoded it.
        ledger: the account of its block store.
    """

    def __init__(
        self, store_dir: Path, *, tokenizer: TextTokenizer, config: Config, start: StartingPlace
    ) -> None:
        """Open the block store in `store_dir`; see `open_run`."""
        self._store_dir, self._config, self._start = store_dir, config, start
        self._store = BlockStore(store_dir)
        self.num_tokens = self._store.num_tokens
        self.tokenizer = tokenizer
        self.ledger: Mapping[str, Any] = read_ledger(store_dir) or {}
        self._bos: Sequence[int] = self.ledger.get("bos_token_ids", ())

    @classmethod
    def open_run(cls, run_dir: Path, *, notify: Notify = silent) -> "TrainingText":
        """Find the blocks a run was trained on in the cache, or make them again.

        Args:
            run_dir: the run's folder; the run may be unfinished.
            notify: told in a sentence where blocks are made again.

        Raises:
            RunError: it is no run, or its blocks are gone, and its texts are gone or changed.
        """
        facts = require_facts(run_dir)
        name, config = _recorded(run_dir, facts)
        start = StartingPlace.of(run_dir, facts)
        store_dir = default_cache_dir() / "blocks" / name
        try:
            with stage("Checking the training text"):
                is_damaged = not store_dir.is_dir() or find_damage(store_dir) is not None
            if is_damaged:
                _rebuild_blocks(store_dir, config, start, run_dir=run_dir, notify=notify)
            tokenizer = _tokenizer_of(run_dir, store_dir, config, start)
            return cls(store_dir, tokenizer=tokenizer, config=config, start=start)
        except RunError:
            raise
        except GptftError as error:
            raise RunError(f"The training text of {run_dir} isn't available. {error}") from None

    def encode(self, text: WrittenText) -> EncodedText:
        """Encode a continuation as it would be encoded in a document, after its prompt.

        A token that lies over the border of the two isn't counted, unless all that it has of the
        prompt is white space.

        Raises:
            ConfigError: the text holds half of a surrogate pair.
        """
        together = text.prompt + text.continuation
        data, border = together.encode(), len(text.prompt.encode())
        kept = [
            token
            for token in split_tokens(self.tokenizer, together)
            if token.start >= border
            or (token.end > border and data[token.start : border].isspace())
        ]
        spans = tuple((token.start, token.end) for token in kept)
        return EncodedText(data, tuple(token.id for token in kept), spans)

    def copies(self, token_id_lists: Sequence[Sequence[int]]) -> list[Copied]:
        """What of each sequence of ids stands in the training text, word for word."""
        return find_copies(
            token_id_lists, read=self._store.span, num_tokens=self.num_tokens,
            eos_token_id=int(self.ledger["eos_token_id"]), bos_token_ids=self._bos,
        )  # fmt: skip

    def held_out_excerpts(self, *, length: int) -> list[list[int]]:
        """Excerpts of the validation split, evenly spread, 4,096 tokens in all at most.

        Args:
            length: tokens of each, at least 32 and no more than there are.

        Returns:
            ids; no excerpt at all where the run held nothing out.
        """
        if not self.ledger.get("validation_documents"):
            return []
        store = BlockStore(self._store_dir, split="validation")
        length = min(max(length, _SHORTEST_EXCERPT), _HELD_OUT_TOKENS, store.num_tokens)
        count = min(_HELD_OUT_TOKENS, store.num_tokens) // length
        free = store.num_tokens - length
        starts = [free * number // max(count - 1, 1) for number in range(count)]
        return [store.span(start, length).tolist() for start in starts]

    def places(self, copies: Sequence[Copied]) -> tuple[list[Place | None], str | None]:
        """Where the longest spans first stand: the file and line, or else the block.

        Returns:
            a place for each, None where there is no span; and why some have no file, in a
            sentence, where that is so.
        """
        places: list[Place | None] = [None] * len(copies)
        wanted: dict[int, WantedSpan] = {}
        for number, copied in enumerate(copies):
            if (start := copied.place_in_stream) is not None:
                place = places[number] = Place(self._store.place(start)[0] + 1)
                wanted[number] = self._wanted(start, copied.longest, block=place.block)
        if not wanted:
            return places, None
        try:
            plan, texts = _scan(self._config, self._start)
            if store_path(plan, texts).name != self._store_dir.name:
                return places, (
                    "The training files, or how they are read, have changed since the run: a place "
                    "in them can't be named."
                )
            found = find_spans(texts, plan.data, wanted, held_out=self._held_out())
        except GptftError as error:
            return places, f"The training files can't be read again: {error}"
        for number, place in found.items():
            places[number] = place
        if len(found) < len(wanted):
            return places, (
                "A span isn't spelled in the training files as its tokens are: the tokenizer "
                "changes the text it encodes."
            )
        return places, None

    def around(self, place: int, length: int, *, context: int) -> tuple[str, str, str]:
        """A span of the stream as text, with what stands before and after it in its document.

        Args:
            place: where it begins in the stream.
            length: its tokens.
            context: tokens before it and after it, at most.
        """
        before, span, after, at_start = self._neighbourhood(place, length, context=context)
        raws = TokenBytes.of(self.tokenizer.backend).of_ids(
            [*before, *span, *after], at_start=at_start
        )
        ends = (len(before), len(before) + len(span), len(raws))
        starts = (0, *ends[:-1])
        parts = [b"".join(raws[start:end]) for start, end in zip(starts, ends, strict=True)]
        return tuple(part.decode("utf-8", errors="ignore") for part in parts)  # type: ignore[return-value]

    def _held_out(self) -> Mask | None:
        """Of the documents of data.train, those in the validation split; None where none are."""
        data, ledger = self._config.data, self.ledger
        if data is None or not isinstance(data.validation, float):
            return None
        counted = ledger["documents"] - ledger["repeated_documents"] + ledger["unused_documents"]
        return draw_validation(counted, data, fraction=data.validation)

    def _neighbourhood(
        self, place: int, length: int, *, context: int
    ) -> tuple[list[int], list[int], list[int], bool]:
        """The ids before, in and after a span, of its document alone; whether it begins there."""
        borders = {int(self.ledger["eos_token_id"]), *self._bos}
        start = max(place - context, 0)
        stop = min(place + length + context, self.num_tokens)
        ids = self._store.span(start, stop - start).tolist()
        at = place - start
        before, span, after = ids[:at], ids[at : at + length], ids[at + length :]
        at_start = start == 0 or not borders.isdisjoint(before)
        begin = max((n for n, i in enumerate(before, start=1) if i in borders), default=0)
        end = next((n for n, i in enumerate(after) if i in borders), None)
        return before[begin:], span, after[:end], at_start

    def _wanted(self, place: int, length: int, *, block: int) -> WantedSpan:
        """A span of the stream as text, with what stands around it in its document."""
        before, span, after, at_start = self._neighbourhood(place, length, context=_CONTEXT)
        token_bytes = TokenBytes.of(self.tokenizer.backend)
        raws = token_bytes.of_ids([*before, *span, *after], at_start=at_start)
        text = b"".join(raws).decode("utf-8", errors="ignore")
        head = b"".join(raws[: len(before)]).decode("utf-8", errors="ignore")
        tail = text[len(head) :]
        # The line of the first word, not of the line's end before it.
        return WantedSpan(text, len(head) + len(tail) - len(tail.lstrip()), block)


def _recorded(run_dir: Path, facts: Mapping[str, Any]) -> tuple[str, Config]:
    """What run.json says of the blocks: their name, and the settings they were made by."""
    try:
        name, sections = facts["data"]["store"], facts["config"]
        config = Config.model_validate(
            {part: sections[part] for part in ("model", "tokenizer", "data") if part in sections}
        )
        if is_older_than_bos(facts) and config.data is not None:
            data = config.data.model_copy(update={"add_bos": False})
            config = config.model_copy(update={"data": data})
        if not isinstance(name, str) or Path(name).name != name or config.data is None:
            raise KeyError
    except (KeyError, TypeError, ValidationError):
        raise RunError(
            f"{run_dir / 'run.json'} doesn't say what the run was trained on: another version of "
            "gptft made it, or it was changed."
        ) from None
    return name, config


def _rebuild_blocks(
    store_dir: Path, config: Config, start: StartingPlace, *, run_dir: Path, notify: Notify
) -> None:
    """Make the blocks of a run again, if its texts are still what they were.

    Raises:
        RunError: they aren't.
        GptftError: they, or the tokenizer, can't be read.
    """
    reason = f"its blocks aren't intact in the cache {store_dir.parent.parent}"
    try:
        plan, texts = _scan(config, start)
    except GptftError as error:
        raise RunError(
            f"The training text of {run_dir} isn't available: {reason}, and its texts can't be "
            f"read again. {error}"
        ) from None
    if store_path(plan, texts).name != store_dir.name:
        raise RunError(
            f"The training text of {run_dir} isn't available: {reason}, and its texts, or how they "
            "are read, have changed since the run. Put the texts back as they were, or set "
            "GPTFT_CACHE to the cache that the run was trained from."
        )
    notify(f"The blocks of {run_dir} aren't intact in the cache; they are made again.")
    prepare_blocks(plan, notify=notify)


def _scan(config: Config, start: StartingPlace) -> tuple[PackingPlan, list[ScannedText]]:
    """The texts of a config as they are today, with what else decides its blocks."""
    plan = plan_packing(start.locate(config))
    found = plan.texts()
    return plan, scan_texts(found.texts, plan.data, cache_dir=plan.cache_dir)


def _tokenizer_of(
    run_dir: Path, store_dir: Path, config: Config, start: StartingPlace
) -> TextTokenizer:
    """The tokenizer of a run: trained with its blocks, or its model's, or its base's."""
    for folder in (store_dir / "tokenizer", run_dir / MODEL, run_dir / ADAPTER):
        if (folder / "tokenizer.json").is_file():
            return load_tokenizer(str(folder))
    plan = plan_packing(start.locate(config))
    return plan.tokenizer or load_tokenizer(str(store_dir / "tokenizer"))
