"""A model and documents -> how likely each document was, and how sure the model was.

Every number comes from teacher forcing: the text is given, nothing is drawn. Logits are float32,
sums float64. Memory doesn't grow with the length of the texts, but for a few numbers a document.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappush, heappushpop

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.evaluate.conversations import ConversationEncoder
from gptft.analysis.evaluate.corpus import Document
from gptft.analysis.evaluate.results import NUM_BINS, Calibration, Figures, ModelScores
from gptft.analysis.scored_tokens import token_reader
from gptft.decoding.encoding import encode_bare
from gptft.decoding.logprobs import LOGITS_AT_ONCE, Window, chunked_logits
from gptft.decoding.special_tokens import check_ids, num_embeddings, special_tokens
from gptft.documents.conversations import Conversation
from gptft.errors import ConfigError, RunError
from gptft.models.load import context_of
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokens import utf8_bytes

_AT_ONCE = 2**18  # characters that are encoded before they are scored, short documents together
_ROWS = 64  # documents that go through the model together, at most
_SHOWN = 300  # characters of a hard document that are kept


@dataclass(frozen=True)
class Asked:
    """How documents are read.

    Attributes:
        window: tokens that are read at once; the model's context if not given.
        stride: tokens by which the window moves on; half of the window if not given.
        counts_eos: whether EOS after each document is predicted, too.
        num_hardest: documents whose text is kept.
    """

    window: int | None = None
    stride: int | None = None
    counts_eos: bool = False
    num_hardest: int = 5


@dataclass(frozen=True)
class _Encoded:
    """A document as the model reads it.

    Attributes:
        at: its number among all.
        ids: with what stands before and after it.
        start: the first token that is predicted.
        document: itself.
        num_bytes: bytes that are predicted.
        num_characters: characters that are predicted.
        counted: of each token, whether it is predicted; None for all from `start` on.
    """

    at: int
    ids: Sequence[int]
    start: int
    document: Document
    num_bytes: int
    num_characters: int
    counted: Sequence[bool] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted."""
        return len(self.ids) - self.start if self.counted is None else sum(self.counted)


@dataclass
class _Counted:
    """What is known of the documents so far."""

    num_hardest: int
    nats: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    num_bytes: list[int] = field(default_factory=list)
    num_characters: list[int] = field(default_factory=list)
    num_unfaithful: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(NUM_BINS, np.int64))
    confidences: np.ndarray = field(default_factory=lambda: np.zeros(NUM_BINS))
    hits: np.ndarray = field(default_factory=lambda: np.zeros(NUM_BINS, np.int64))
    hardest: list[tuple[float, int, str]] = field(default_factory=list)  # a heap, the easiest first

    def add_tokens(self, confidences: np.ndarray, hits: np.ndarray) -> None:
        """Count tokens by how sure the model was."""
        bins = np.minimum((confidences * NUM_BINS).astype(np.intp), NUM_BINS - 1)
        self.counts += np.bincount(bins, minlength=NUM_BINS)
        self.confidences += np.bincount(bins, weights=confidences, minlength=NUM_BINS)
        self.hits += np.bincount(bins[hits], minlength=NUM_BINS)

    def add_document(self, one: _Encoded, nats: float) -> None:
        """Keep a document's sum, and its text where it is among the hardest."""
        self.nats[one.at] = nats
        figures = Figures(nats, one.num_tokens, one.num_bytes, one.num_characters)
        bits = figures.bits_per_byte
        if bits is None or not self.num_hardest:
            return
        entry = (bits, -one.at, one.document.text.strip()[:_SHOWN])
        if len(self.hardest) < self.num_hardest:
            heappush(self.hardest, entry)
        else:
            heappushpop(self.hardest, entry)


class _Encoder:
    """Makes of documents what a model reads."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, counts_eos: bool
    ) -> None:
        special = special_tokens(model, tokenizer)
        if counts_eos and not special.eos:
            raise ConfigError(
                f"{tokenizer.name_or_path or 'This model'} has no EOS that could be predicted. "
                "Leave --eos out."
            )
        self.before, self.num_kept = special.before, len(special.prefix)
        self.begins_after = (
            str(tokenizer.convert_ids_to_tokens(self.before[-1])) if self.before else None
        )
        self._after = [special.eos[0]] if counts_eos else []
        self._model, self._tokenizer = model, tokenizer
        self._read = token_reader(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._drops = backend is not None and TokenBytes.of(backend).drops_first_space

    def encode(self, document: Document, at: int) -> tuple[_Encoded, bool]:
        """A document's ids, and whether they spell its very text."""
        if document.conversation is not None:
            return self._answers(document, document.conversation, at), True
        raw = utf8_bytes(document.text)
        own = encode_bare(self._tokenizer, document.text)
        ids = [*self.before, *own, *self._after]
        check_ids(self._model, [ids])
        spelled = b"".join(self._read(i).bytes for i in own)
        is_faithful = spelled == raw or (self._drops and spelled == b" " + raw)
        num_bytes, num_characters = len(raw), len(document.text)
        if not self.before and own:  # nothing stands before the first token
            first = self._read(own[0]).bytes
            num_bytes -= min(len(first), num_bytes)
            # A byte that doesn't continue a character begins one.
            num_characters -= min(sum(byte & 0xC0 != 0x80 for byte in first), num_characters)
        start = min(max(len(self.before), 1), len(ids))
        return _Encoded(at, ids, start, document, num_bytes, num_characters), is_faithful

    def _answers(self, document: Document, conversation: Conversation, at: int) -> _Encoded:
        """A conversation's ids, of which its answers, and what ends them, are counted.

        Raises:
            DataError: the template can't write it.
        """
        where = f"Conversation {document.number:,}"
        found = self._chats.encode(conversation, where=where, before=self.before)
        check_ids(self._model, [found.ids])
        counted = [yes and place > 0 for place, yes in enumerate(found.is_answer)]
        control = self._chats.control
        said = b"".join(
            self._read(i).bytes
            for i, yes in zip(found.ids, counted, strict=True)
            if yes and i not in control
        )
        characters = sum(byte & 0xC0 != 0x80 for byte in said)
        return _Encoded(at, found.ids, 1, document, len(said), characters, counted)

    @cached_property
    def _chats(self) -> ConversationEncoder:
        return ConversationEncoder(self._tokenizer)


@torch.no_grad()
def measure_documents(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[Document],
    *,
    asked: Asked,
    advance: Callable[[int], None],
) -> ModelScores:
    """Score every document, each alone, however many go through the model together.

    A document begins after what the tokenizer puts before a text, else after BOS or EOS; where
    there is none of these its first token isn't predicted, and its bytes aren't counted. One that
    is longer than the window is read as `score_tokens` does.

    Args:
        name: the model's.
        model: a causal one, in eval mode.
        tokenizer: its tokenizer.
        documents: with some text each.
        asked: how they are read.
        advance: told how many more bytes are done.

    Raises:
        ConfigError: a window that the model can't have, or no EOS to predict.
        ModelError: the model's logits are not numbers.
        RunError: out of memory.
    """
    window = _window(name, model, asked)
    encoder = _Encoder(model, tokenizer, counts_eos=asked.counts_eos)
    counted = _Counted(asked.num_hardest)
    for batch in _batches(_encoded(documents, encoder, counted), num_ids=num_embeddings(model)):
        try:
            sums = _score(
                model, batch, window=window, num_kept=encoder.num_kept, counted=counted,
                advance=advance,
            )  # fmt: skip
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"Out of memory with {name} and {max(len(one.ids) for one in batch):,} tokens at "
                "once. Give a smaller --window, or --cpu."
            ) from error
        for one, nats in zip(batch, sums, strict=True):
            counted.add_document(one, nats)
    return ModelScores(
        model=name,
        begins_after=encoder.begins_after,
        context=context_of(model),
        window=None if window is None else (window.size, window.stride),
        nats=np.array(counted.nats, np.float64),
        num_tokens=np.array(counted.num_tokens, np.int64),
        num_bytes=np.array(counted.num_bytes, np.int64),
        num_characters=np.array(counted.num_characters, np.int64),
        calibration=Calibration(counted.counts, counted.confidences, counted.hits),
        hardest=[(-at, text) for _, at, text in sorted(counted.hardest, reverse=True)],
        num_unfaithful=counted.num_unfaithful,
    )


def _window(name: str, model: PreTrainedModel, asked: Asked) -> Window | None:
    context = context_of(model)
    size = asked.window or context
    if size is None:
        if asked.stride is not None:
            raise ConfigError(
                f"--stride {asked.stride:,}: {name} has no limit to its context, so nothing moves. "
                "Give --window, too."
            )
        return None
    if context is not None and size > context:
        raise ConfigError(
            f"--window {size:,} is more than the context of {name}, {context:,} tokens. Give at "
            "most that."
        )
    stride = asked.stride or max(size // 2, 1)
    if stride > size:
        raise ConfigError(
            f"--stride {stride:,} is more than the window of {name}, {size:,} tokens, so some "
            "would be left out. Give at most that."
        )
    return Window(size, stride)


def _encoded(
    documents: Iterable[Document], encoder: _Encoder, counted: _Counted
) -> Iterator[list[_Encoded]]:
    """The documents, as many at a time as are encoded together."""
    held: list[_Encoded] = []
    num_characters = 0
    for at, document in enumerate(documents):
        one, is_faithful = encoder.encode(document, at)
        counted.nats.append(0.0)
        is_predicted = one.num_tokens > 0
        counted.num_tokens.append(one.num_tokens)
        counted.num_bytes.append(one.num_bytes if is_predicted else 0)
        counted.num_characters.append(one.num_characters if is_predicted else 0)
        counted.num_unfaithful += not is_faithful
        if not is_predicted:
            continue
        held.append(one)
        num_characters += len(document.text)
        if num_characters >= _AT_ONCE:
            yield held
            held, num_characters = [], 0
    yield held


def _batches(groups: Iterable[list[_Encoded]], *, num_ids: int) -> Iterator[list[_Encoded]]:
    """Documents of similar length, as many as have room for their logits at once; or one alone."""
    room = LOGITS_AT_ONCE // num_ids  # tokens, padding included
    for group in groups:
        batch: list[_Encoded] = []
        for one in sorted(group, key=lambda one: len(one.ids)):
            if batch and ((len(batch) + 1) * len(one.ids) > room or len(batch) == _ROWS):
                yield batch
                batch = []
            batch.append(one)
        if batch:
            yield batch


def _score(
    model: PreTrainedModel,
    batch: Sequence[_Encoded],
    *,
    window: Window | None,
    num_kept: int,
    counted: _Counted,
    advance: Callable[[int], None],
) -> list[float]:
    """The sum of -ln p of each document of a batch; what was sure goes to `counted`.

    Padding is on the right, where no token of a causal model sees it.
    """
    rows = [torch.tensor(one.ids) for one in batch]
    ids = pad_sequence(rows, batch_first=True).to(model.device)  # (B, T)
    ends = torch.tensor([[len(one.ids)] for one in batch], device=model.device)  # (B, 1)
    begins = torch.tensor([[one.start] for one in batch], device=model.device)
    places = torch.arange(ids.shape[1], device=model.device)  # (T,)
    wanted = (places >= begins) & (places < ends)  # (B, T)
    for row, one in enumerate(batch):
        if one.counted is not None:
            wanted[row, : len(one.ids)] &= torch.tensor(one.counted, device=model.device)
    num_bytes, told = sum(len(one.document.text.encode()) for one in batch), 0
    total = torch.zeros(len(batch), dtype=torch.float64)  # on the CPU: MPS has no float64
    for first, logits in chunked_logits(
        model, ids[:, :-1], (places < ends).long(), first=min(one.start for one in batch) - 1,
        kept=num_kept, counted=wanted, window=window,
    ):  # fmt: skip
        here = slice(first + 1, first + 1 + logits.shape[1])
        targets, mask = ids[:, here], wanted[:, here]  # (B, t)
        logprobs = logits.log_softmax(-1)  # (B, t, V)
        own = logprobs.gather(-1, targets[..., None])[..., 0]
        best = logprobs.max(-1)
        # Not a product: what isn't counted may be infinite.
        total -= own.masked_fill(~mask, 0.0).cpu().double().sum(-1)
        confidences = best.values[mask].cpu().double().exp().numpy()
        counted.add_tokens(confidences, (best.indices == targets)[mask].cpu().numpy())
        done = num_bytes * (here.stop - 1) // (ids.shape[1] - 1)  # of the longest document
        advance(done - told)
        told = done
    return [float(nats) for nats in total]
