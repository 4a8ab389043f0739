"""A tokenizer, token ids and scores -> tokens with the text of each, and how likely it was."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import numpy as np

from gptft.files import JsonFields
from gptft.panics import no_panic
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space, whole_text
from gptft.tokenization.tokens import Token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class RunnerUp(NamedTuple):
    """Another token that was likely.

    Attributes:
        token_id: the token.
        probability: as the model alone has it.
        processed_probability: after all processors; None where there were none.
    """

    token_id: int
    probability: float
    processed_probability: float | None


@dataclass(frozen=True)
class TokenScore:
    """How likely a token was where it stands.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability, as the model alone has it.
        processed_logprob: the same after all processors, minus infinity for a token they removed;
            None where there were none.
        rank: 1 + how many tokens are likelier for the model alone.
        runners_up: the likeliest other tokens, likeliest first.
    """

    token_id: int
    logprob: float
    processed_logprob: float | None
    rank: int
    runners_up: tuple[RunnerUp, ...]

    @property
    def probability(self) -> float:
        """As the model alone has it."""
        return math.exp(self.logprob)

    @property
    def processed_probability(self) -> float | None:
        """After all processors; None where there were none."""
        return None if self.processed_logprob is None else math.exp(self.processed_logprob)

    @property
    def surprisal_bits(self) -> float:
        """-log2 of its probability, as the model alone has it."""
        return -self.logprob / math.log(2)


@dataclass(frozen=True)
class ScoredToken(JsonFields):
    """A token of a text, and how likely it was.

    Attributes:
        token: with its bytes.
        score: None where it wasn't scored.
        runners_up: the other tokens of the score, as a person is shown them.
    """

    token: Token
    score: TokenScore | None
    runners_up: tuple[str, ...] = ()

    def json_fields(self) -> dict[str, Any]:
        """As JSON has it: null for what is unknown."""
        values = {"id": self.token.id, "text": self.token.text, "bytes": self.token.bytes}
        score = self.score
        if score is None:
            return values | {"probability": None, "bits": None, "rank": None, "runners_up": []}
        names = ("id", "piece", "probability", "processed_probability")
        return values | {
            "probability": score.probability,
            "processed_probability": score.processed_probability,
            "bits": score.surprisal_bits,
            "rank": score.rank,
            "runners_up": [
                dict(zip(names, (other.token_id, text, *other[1:]), strict=True))
                for other, text in zip(score.runners_up, self.runners_up, strict=True)
            ],
        }


class _MadeWhenAsked(Sequence[T]):
    """A sequence that keeps less than its items: a long text has hundreds of thousands."""

    @abstractmethod
    def make(self, at: int) -> T:
        """The item at `at`, which is none from the end."""

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        found = range(len(self))[at]
        return self.make(found) if isinstance(found, int) else [*map(self.make, found)]


@dataclass(frozen=True, eq=False)
class TokenScores(_MadeWhenAsked[TokenScore]):
    """The scores of T tokens, in some 60 bytes each.

    Attributes:
        num_runners_up: of each, at most.
        token_ids: the tokens, shape (T,).
        logprobs: see `TokenScore`, shape (T,).
        processed_logprobs: the same after all processors; empty where there were none.
        ranks: shape (T,).
        likeliest: ids of the likeliest tokens, the token itself perhaps among them, likeliest
            first, shape (T, num_runners_up + 1) or, in a small vocabulary, fewer.
        probabilities: of `likeliest`, same shape.
        processed_probabilities: the same after all processors; empty where there were none.
    """

    num_runners_up: int
    token_ids: np.ndarray
    logprobs: np.ndarray
    processed_logprobs: np.ndarray
    ranks: np.ndarray
    likeliest: np.ndarray
    probabilities: np.ndarray
    processed_probabilities: np.ndarray

    @classmethod
    def empty(
        cls, num_tokens: int, *, num_runners_up: int, vocab_size: int, is_processed: bool
    ) -> "TokenScores":
        """Room for scores.

        All of it at once: small arrays made between large ones, the logits, would keep a process
        from giving back the memory of those.
        """
        processed, width = num_tokens * is_processed, min(num_runners_up + 1, vocab_size)
        return cls(
            num_runners_up=num_runners_up,
            token_ids=np.empty(num_tokens, np.int32),
            logprobs=np.empty(num_tokens, np.float32),
            processed_logprobs=np.empty(processed, np.float32),
            ranks=np.empty(num_tokens, np.int32),
            likeliest=np.empty((num_tokens, width), np.int32),
            probabilities=np.empty((num_tokens, width), np.float32),
            processed_probabilities=np.empty((processed, width), np.float32),
        )

    def __len__(self) -> int:
        return len(self.token_ids)

    def make(self, at: int) -> TokenScore:
        """The score of the token at `at`."""
        token_id, is_processed = int(self.token_ids[at]), len(self.processed_logprobs) > 0
        after = self.processed_probabilities[at].tolist() if is_processed else repeat(None)
        others = zip(
            self.likeliest[at].tolist(), self.probabilities[at].tolist(), after, strict=False
        )
        found = (RunnerUp(*other) for other in others if other[0] != token_id)
        return TokenScore(
            token_id=token_id,
            logprob=float(self.logprobs[at]),
            processed_logprob=float(self.processed_logprobs[at]) if is_processed else None,
            rank=int(self.ranks[at]),
            runners_up=tuple(islice(found, self.num_runners_up)),
        )


@dataclass(frozen=True, eq=False)
class ScoredTokens(_MadeWhenAsked[ScoredToken]):
    """The tokens of a text, the last ones with their scores.

    Attributes:
        tokens: all of them.
        scores: of the last ones.
        read: gives the token of an id.
    """

    tokens: Sequence[Token]
    scores: Sequence[TokenScore]
    read: Callable[[int], Token]

    def __len__(self) -> int:
        return len(self.tokens)

    def make(self, at: int) -> ScoredToken:
        """The token at `at`."""
        scored = at - len(self.tokens) + len(self.scores)
        if scored < 0:
            return ScoredToken(self.tokens[at], None)
        score = self.scores[scored]
        runners_up = tuple(self.read(other.token_id).shown for other in score.runners_up)
        return ScoredToken(self.tokens[at], score, runners_up)


def token_reader(tokenizer: "PreTrainedTokenizerBase") -> Callable[[int], Token]:
    """A function that gives the token of an id, with its bytes; its place is 0, 0."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    token_bytes = None if backend is None else TokenBytes.of(backend)

    @cache
    def read(token_id: int) -> Token:
        entry = tokenizer.convert_ids_to_tokens(token_id)
        if not isinstance(entry, str):  # a model may know more ids than its tokenizer
            return _token(token_id, f"⟨id {token_id}⟩", b"")
        if token_bytes is None:
            with no_panic("A token can't be decoded"):
                return _token(token_id, entry, str(tokenizer.decode([token_id])).encode())
        return _token(token_id, entry, token_bytes.of_entry(entry, token_id))

    return read


def scored_tokens(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], scores: Sequence[TokenScore]
) -> ScoredTokens:
    """The tokens of a text, each with its score.

    Args:
        tokenizer: theirs.
        ids: a text's tokens from its beginning on.
        scores: of its last tokens; the first ones may have none. None of them may be missing where
            a token stands before the text that isn't among `ids`: more scores than ids is an error.
    """
    if len(scores) > len(ids):
        raise ValueError(f"{len(scores)} scores for {len(ids)} tokens")
    read = token_reader(tokenizer)
    tokens = [read(token_id) for token_id in ids]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and TokenBytes.of(backend).drops_first_space:
        raws = [token.bytes for token in tokens]
        drop_first_space(raws)
        tokens = [_token(t.id, t.token, raw) for t, raw in zip(tokens, raws, strict=True)]
    return ScoredTokens(tokens, scores, read)


def _token(token_id: int, entry: str, raw: bytes) -> Token:
    return Token(token_id, entry, raw, whole_text(raw), start=0, end=0)
