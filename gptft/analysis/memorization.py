"""A run and texts its model wrote -> how much of them is copied from the text it was trained on.

In: a run folder and texts, each a prompt with its continuation. Out: for each continuation the
longest span that stands in the training text word for word, where it stands, and what share of its
n-grams does. Reads the run's block store, or makes it again from the texts; must not import torch
or transformers.

A share is no verdict by itself: short n-grams are common property, and new text, too, has many of
its 4-grams in common with a large corpus of its kind. What new text shares is therefore the measure
of what a model's text shares. Where the run held a part of its text out, excerpts of it as long as
the texts are looked at in the same way: a text with longer spans and more 8-grams and 16-grams than
those have was learned by heart in part. Where nothing was held out, spans of a dozen tokens and
more still say so; shares of 4-grams say nothing.

Source: McCoy et al. 2021, "How much do language models copy from their training data?"
(2111.09509), for n-gram novelty and its comparison with held-out text; Carlini et al. 2022
(2202.07646) for verbatim spans.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from gptft.analysis.ngram_search import SIZES, Copied, find_copies
from gptft.config.sections import Config, DataConfig
from gptft.data.plan import PackingPlan, plan_packing, store_path
from gptft.data.prepare import prepare_blocks
from gptft.data.store import BlockStore, find_damage, read_ledger
from gptft.documents.formats import RECORD_SUFFIXES
from gptft.documents.held_out import Mask, draw_validation
from gptft.documents.read import Chunk, cut_text, read_documents
from gptft.documents.scan import ScannedText, scan_texts
from gptft.documents.sources import VALIDATION, find_texts
from gptft.errors import GptftError, RunError
from gptft.files import default_cache_dir
from gptft.models.source import resolve_model
from gptft.runs.read import read_facts, require_facts
from gptft.text.encoding import read_chunks
from gptft.text.streams import content_suffix
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.tokens import split_tokens

Notify = Callable[[str], None]

_CONTEXT = 48  # tokens on either side of a span that tell its place from others with the same words
_HELD_OUT_TOKENS = 4096
_CHUNK_BYTES = 1_000_000  # of a file, to search at once
_SHORTEST_EXCERPT = 32  # tokens, so that there are 16-grams in it


@dataclass(frozen=True)
class WrittenText:
    """What a model wrote.

    Attributes:
        prompt: what it went on from; nothing of it is counted. Empty where it isn't known.
        continuation: what it wrote.
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


@dataclass(frozen=True)
class Place:
    """Where a span stands in the training text.

    Attributes:
        block: of the training part, from 1, as `gptft prepare --preview` counts them.
        file: the file, as its name is shown; None where that can't be said.
        line: of the file, from 1; None in a file of records.
        document: which of the records, from 1, empty ones left out; None in a file of text.
    """

    block: int
    file: str | None = None
    line: int | None = None
    document: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return f"block {self.block:,} of the training part"
        if self.line is None:
            return f"{self.file}, document {self.document:,}"
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class TextNovelty:
    """How much of one text is copied.

    Attributes:
        text: what was looked at.
        num_tokens: of its continuation.
        copied: what of them stands in the training text.
        quote: the longest span, as it stands in the text.
        place: where that span stands first; None where there is none.
    """

    text: WrittenText
    num_tokens: int
    copied: Copied
    quote: str
    place: Place | None

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        where = vars(self.place) if self.place else dict.fromkeys(Place.__dataclass_fields__)
        return {
            **vars(self.text),
            "num_tokens": self.num_tokens,
            "longest": {
                "num_tokens": self.copied.longest,
                "num_characters": len(self.quote),
                "text": self.quote,
                "num_places": self.copied.num_places,
                "place_in_stream": self.copied.place_in_stream,
                **where,
            },
            "shares": {str(n): share for n, share in self.copied.shares.items()},
        }


@dataclass(frozen=True)
class Summary:
    """How much of several texts is copied.

    Attributes:
        num_texts: how many there are.
        num_tokens: of all together.
        longest: tokens of the longest span copied.
        median_longest: the median over the texts of each one's longest span.
        shares: by n, of all their n-grams together; None where there are none.
    """

    num_texts: int
    num_tokens: int
    longest: int
    median_longest: float
    shares: dict[int, float | None]

    @classmethod
    def of(cls, copies: Sequence[Copied], *, num_tokens: int) -> "Summary":
        """Sum up one or more texts."""
        totals = {n: sum(copied.ngrams[n] for copied in copies) for n in SIZES}
        found = {n: sum(copied.found[n] for copied in copies) for n in SIZES}
        lengths = [copied.longest for copied in copies]
        shares = {n: found[n] / total if total else None for n, total in totals.items()}
        return cls(len(copies), num_tokens, max(lengths), float(median(lengths)), shares)

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        return {**vars(self), "shares": {str(n): share for n, share in self.shares.items()}}


@dataclass(frozen=True)
class Novelty:
    """How much of what a run's model wrote is copied.

    Attributes:
        run_dir: the run.
        num_training_tokens: that the texts were compared with.
        texts: each text.
        summary: of all texts.
        held_out: the same of text the model never saw; None where the run held none out.
        held_out_duplicates: held-out documents that stand in the training part as well.
        why_no_files: why no file is named, in a sentence; None where they are.
    """

    run_dir: Path
    num_training_tokens: int
    texts: tuple[TextNovelty, ...]
    summary: Summary
    held_out: Summary | None
    held_out_duplicates: int
    why_no_files: str | None

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        return {
            "run_dir": str(self.run_dir),
            "num_training_tokens": self.num_training_tokens,
            "texts": [text.to_dict() for text in self.texts],
            "all": self.summary.to_dict(),
            "held_out": self.held_out.to_dict() if self.held_out else None,
            "held_out_duplicates": self.held_out_duplicates,
            "why_no_files": self.why_no_files,
        }


def measure_novelty(
    run_dir: Path, texts: Sequence[WrittenText], *, notify: Notify = lambda sentence: None
) -> Novelty:
    """Say how much of what a run's model wrote is copied from its training text.

    Args:
        run_dir: the run.
        texts: at least one.
        notify: told in a sentence what a user should know.

    Raises:
        ConfigError: a text is no Unicode.
        RunError: the run's training text can't be had.
    """
    training = TrainingText.open_run(run_dir, notify=notify)
    encoded = [training.encode(text) for text in texts]
    lengths = [len(one.ids) for one in encoded]
    excerpts = training.held_out_excerpts(length=round(sum(lengths) / len(lengths)))
    copies = training.copies([*(one.ids for one in encoded), *excerpts])
    ours, theirs = copies[: len(texts)], copies[len(texts) :]
    places, why_no_files = training.places(ours)
    measured = [
        TextNovelty(text, len(one.ids), copied, one.quote(copied.start, copied.longest), place)
        for text, one, copied, place in zip(texts, encoded, ours, places, strict=True)
    ]
    held_out = Summary.of(theirs, num_tokens=sum(map(len, excerpts))) if theirs else None
    return Novelty(
        run_dir=run_dir,
        num_training_tokens=training.num_tokens,
        texts=tuple(measured),
        summary=Summary.of(ours, num_tokens=sum(lengths)),
        held_out=held_out,
        held_out_duplicates=int(training.ledger.get("held_out_duplicates", 0)) if held_out else 0,
        why_no_files=why_no_files,
    )


def training_text_of(
    model_name: str, *, notify: Notify = lambda sentence: None
) -> "TrainingText | None":
    """The training text of a model, where it is a run whose text can be had.

    Args:
        model_name: of any model.
        notify: told why a run's text can't be had.
    """
    if read_facts(Path(model_name)) is None:
        return None
    try:
        return TrainingText.open_run(Path(model_name), notify=notify)
    except RunError as error:
        notify(str(error))
        return None


def base_model_of(model_name: str) -> str | None:
    """What a run was tuned from, where that can still be found; None for any other model."""
    facts = read_facts(Path(model_name))
    try:
        base = facts["config"]["model"]["name"] if facts else None
        return base if isinstance(base, str) and resolve_model(base) is not None else None
    except (KeyError, TypeError, GptftError):
        return None


class TrainingText:
    """The text a run was trained on, as tokens.

    Attributes:
        num_tokens: of its training part, each document's EOS counted.
        tokenizer: what encoded it.
        ledger: the account of its block store.
    """

    def __init__(
        self, store_dir: Path, *, tokenizer: TextTokenizer, config: Config, run_dir: Path
    ) -> None:
        """Open the block store in `store_dir`; see `open_run`."""
        self._store_dir, self._config, self._run_dir = store_dir, config, run_dir
        self._store = BlockStore(store_dir)
        self.num_tokens = self._store.num_tokens
        self.tokenizer = tokenizer
        self.ledger: Mapping[str, Any] = read_ledger(store_dir) or {}

    @classmethod
    def open_run(cls, run_dir: Path, *, notify: Notify = lambda sentence: None) -> "TrainingText":
        """Find the blocks a run was trained on in the cache, or make them again.

        Args:
            run_dir: the run's folder; the run may be unfinished.
            notify: told in a sentence where blocks are made again.

        Raises:
            RunError: it is no run, or its blocks are gone and its texts are, too, or have changed.
        """
        facts = require_facts(run_dir)
        name, config = _recorded(run_dir, facts)
        store_dir = default_cache_dir() / "blocks" / name
        try:
            if not store_dir.is_dir() or find_damage(store_dir) is not None:
                _make_again(store_dir, config, run_dir=run_dir, notify=notify)
            tokenizer = _tokenizer_of(run_dir, store_dir, config)
            return cls(store_dir, tokenizer=tokenizer, config=config, run_dir=run_dir)
        except RunError:
            raise
        except GptftError as error:
            raise RunError(f"The training text of {run_dir} can't be had. {error}") from None

    def encode(self, text: WrittenText) -> EncodedText:
        """Encode a continuation as it would be encoded in a document, after its prompt.

        A token that lies over the border of the two isn't counted, unless it is nothing but white
        space that it has of the prompt.

        Raises:
            ConfigError: the text holds half of a surrogate pair.
        """
        whole = text.prompt + text.continuation
        pieces = split_tokens(self.tokenizer, whole)
        data, border = whole.encode(), len(text.prompt.encode())
        kept = [
            piece
            for piece in pieces
            if piece.start >= border
            or (piece.end > border and data[piece.start : border].isspace())
        ]
        ids, spans = [piece.id for piece in kept], [(piece.start, piece.end) for piece in kept]
        return EncodedText(data, tuple(ids), tuple(spans))

    def copies(self, token_id_lists: Sequence[Sequence[int]]) -> list[Copied]:
        """What of each sequence of ids stands in the training text, word for word."""
        return find_copies(
            token_id_lists,
            read=self._store.span,
            num_tokens=self.num_tokens,
            eos_token_id=int(self.ledger["eos_token_id"]),
        )

    def held_out_excerpts(self, *, length: int) -> list[list[int]]:
        """Stretches of the validation part, evenly spread, 4,096 tokens in all at most.

        Args:
            length: tokens of each, at least 32 and no more than there are.

        Returns:
            ids; no stretch at all where the run held nothing out.
        """
        if not self.ledger.get("validation_documents"):
            return []
        store = BlockStore(self._store_dir, part="validation")
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
        block_size = len(self._store[0])
        places: list[Place | None] = [
            None
            if copied.place_in_stream is None
            else Place(copied.place_in_stream // block_size + 1)
            for copied in copies
        ]
        wanted = {
            number: self._wanted(copied.place_in_stream, copied.longest, block=place.block)
            for number, (copied, place) in enumerate(zip(copies, places, strict=True))
            if copied.place_in_stream is not None and place is not None
        }
        if not wanted:
            return places, None
        try:
            plan, texts = _scan(self._config)
            if store_path(plan, texts).name != self._store_dir.name:
                return places, (
                    "The training files, or how they are read, have changed since the run: a place "
                    "in them can't be named."
                )
            found = _find_in_files(texts, plan.data, wanted, held_out=self._held_out())
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

    def _held_out(self) -> Mask | None:
        """Of the documents of data.train, those in the validation part; None where none are."""
        data, ledger = self._config.data, self.ledger
        if data is None or not isinstance(data.validation, float):
            return None
        counted = ledger["documents"] - ledger["repeated_documents"] + ledger["unused_documents"]
        return draw_validation(counted, data, fraction=data.validation)

    def _wanted(self, place: int, length: int, *, block: int) -> "_Wanted":
        """The text of a span with what stands around it in its document."""
        eos = int(self.ledger["eos_token_id"])
        start = max(place - _CONTEXT, 0)
        stop = min(place + length + _CONTEXT, self.num_tokens)
        ids = self._store.span(start, stop - start).tolist()
        before, after = ids[: place - start], ids[place - start + length :]
        begins = start == 0
        if eos in before:
            before = before[len(before) - before[::-1].index(eos) :]
            begins = True
        after = after[: after.index(eos)] if eos in after else after
        middle = ids[place - start : place - start + length]
        token_bytes = TokenBytes.of(self.tokenizer.backend)
        raws = token_bytes.of_ids([*before, *middle, *after], at_start=begins)
        whole = b"".join(raws).decode("utf-8", errors="ignore")
        head = b"".join(raws[: len(before)]).decode("utf-8", errors="ignore")
        tail = whole[len(head) :]
        # The line of the first word, not of the line's end before it.
        return _Wanted(whole, len(head) + len(tail) - len(tail.lstrip()), block)


@dataclass(frozen=True)
class _Wanted:
    """A text to find in the files: where in it the span begins, and the block that holds it."""

    text: str
    offset: int
    block: int


def _recorded(run_dir: Path, facts: Mapping[str, Any]) -> tuple[str, Config]:
    """What run.json says of the blocks: their name, and the settings they were made by."""
    try:
        name, sections = facts["data"]["store"], facts["config"]
        config = Config.model_validate(
            {part: sections[part] for part in ("model", "tokenizer", "data") if part in sections}
        )
        if not isinstance(name, str) or Path(name).name != name or config.data is None:
            raise KeyError
    except (KeyError, TypeError, ValidationError):
        raise RunError(
            f"{run_dir / 'run.json'} doesn't say what the run was trained on: another version of "
            "gptft made it, or it was changed."
        ) from None
    return name, config


def _make_again(store_dir: Path, config: Config, *, run_dir: Path, notify: Notify) -> None:
    """Make the blocks of a run again, if its texts are still what they were.

    Raises:
        RunError: they aren't.
        GptftError: they, or the tokenizer, can't be read.
    """
    reason = f"its blocks aren't whole in the cache {store_dir.parent.parent}"
    try:
        plan, texts = _scan(config)
    except GptftError as error:
        raise RunError(
            f"The training text of {run_dir} can't be had: {reason}, and its texts can't be read "
            f"again. {error}"
        ) from None
    if store_path(plan, texts).name != store_dir.name:
        raise RunError(
            f"The training text of {run_dir} can't be had: {reason}, and its texts, or how they "
            "are read, have changed since the run. Put the texts back as they were, or set "
            "GPTFT_CACHE to the cache that the run was trained from."
        )
    notify(f"The blocks of {run_dir} aren't whole in the cache; they are made again.")
    prepare_blocks(plan, notify=notify)


def _scan(config: Config) -> tuple[PackingPlan, list[ScannedText]]:
    """The texts of a config as they are today, with what else decides its blocks."""
    plan = plan_packing(config)
    found = find_texts(plan.data)
    return plan, scan_texts(found.texts, plan.data, cache_dir=plan.cache_dir)


def _tokenizer_of(run_dir: Path, store_dir: Path, config: Config) -> TextTokenizer:
    """The tokenizer of a run: trained with its blocks, or its model's, or its base's."""
    for folder in (store_dir / "tokenizer", run_dir / "model"):
        if (folder / "tokenizer.json").is_file():
            return load_tokenizer(str(folder))
    plan = plan_packing(config)
    return plan.tokenizer or load_tokenizer(str(store_dir / "tokenizer"))


def _find_in_files(
    texts: Sequence[ScannedText],
    data: DataConfig,
    wanted: Mapping[int, _Wanted],
    *,
    held_out: Mask | None,
) -> dict[int, Place]:
    """The first place of each text in the documents of data.train that weren't held out."""
    found: dict[int, Place] = {}
    num_documents = 0  # of all texts so far, as the validation part is drawn of them
    for text in texts:
        if text.source.number == VALIDATION or len(found) == len(wanted):
            continue
        line, document, tail, is_blank = 1, 1, "", True
        pieces, between = _pieces(text, data)
        for piece, ends in pieces:
            left = {number: one for number, one in wanted.items() if number not in found}
            longest = max((len(one.text) for one in left.values()), default=1)
            stretch = tail + piece
            is_blank = is_blank and (not piece or piece.isspace())
            if held_out is None or not held_out[min(num_documents, len(held_out) - 1)]:
                for number, one in left.items():
                    if (at := stretch.find(one.text)) >= 0:
                        at_line = line + stretch.count("\n", 0, at + one.offset)
                        found[number] = (
                            Place(one.block, text.source.name, document=document)
                            if between is None
                            else Place(one.block, text.source.name, line=at_line)
                        )
            cut = len(stretch) if ends else max(len(stretch) - longest + 1, 0)
            line += stretch.count("\n", 0, cut)
            tail = stretch[cut:]
            if ends:
                line += (between or "").count("\n")
                document, num_documents = document + (not is_blank), num_documents + (not is_blank)
                is_blank = True
    return found


def _pieces(text: ScannedText, data: DataConfig) -> tuple[Iterator[Chunk], str | None]:
    """The documents of a text, blank ones whole; and what stands between them, None in records."""
    path = text.source.path
    if path is None or content_suffix(path) in RECORD_SUFFIXES:
        return read_documents(text, data), None
    text.check_unchanged()
    chunks = read_chunks(path, text.facts, line_ends=data.line_ends, chunk_bytes=_CHUNK_BYTES)
    return cut_text(chunks, data), data.document_separator or ""
