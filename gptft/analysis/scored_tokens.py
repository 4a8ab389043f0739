"""A tokenizer, token ids and scores -> tokens with the text of each, and how likely it was."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gptft.files import JsonFields
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space, whole_text
from gptft.tokenization.tokens import Token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
            return _token(token_id, entry, str(tokenizer.decode([token_id])).encode())
        return _token(token_id, entry, token_bytes.of_entry(entry, token_id))

    return read


def scored_tokens(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], scores: Sequence[TokenScore]
) -> tuple[ScoredToken, ...]:
    """The tokens of a text, each with its score.

    Args:
        tokenizer: theirs.
        ids: a text's tokens from its beginning on.
        scores: of its last tokens; the first ones may have none. None of them may be missing where
            a token stands before the text that isn't among `ids`: more scores than ids is an error.
    """
    read = token_reader(tokenizer)
    tokens = [read(token_id) for token_id in ids]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and TokenBytes.of(backend).drops_first_space:
        raws = [token.bytes for token in tokens]
        drop_first_space(raws)
        tokens = [_token(t.id, t.token, raw) for t, raw in zip(tokens, raws, strict=True)]
    unscored = len(tokens) - len(scores)
    if unscored < 0:
        raise ValueError(f"{len(scores)} scores for {len(tokens)} tokens")
    scored = [ScoredToken(token, None) for token in tokens[:unscored]]
    for token, score in zip(tokens[unscored:], scores, strict=True):
        runners_up = tuple(read(other.token_id).shown for other in score.runners_up)
        scored.append(ScoredToken(token, score, runners_up))
    return tuple(scored)


def _token(token_id: int, entry: str, raw: bytes) -> Token:
    return Token(token_id, entry, raw, whole_text(raw), start=0, end=0)
