"""Tokens, what each spells, and how likely it was.

In: a tokenizer of transformers, ids, scores. Out: frozen `ScoredToken`s.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gptft.terminal.text import visible
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space
from gptft.tokenization.tokens import Token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenScore:
    """How likely a token was where it stands.

    Attributes:
        token_id: the token.
        logprob: natural logarithm of its probability, as the model alone has it.
        processed_logprob: the same after all processors, minus infinity for a token they removed;
            None where there were none.
        rank: 1 + how many tokens the model alone held for likelier.
        runners_up: the likeliest other tokens, likeliest first: id, probability as the model alone
            has it, probability after all processors or None.
    """

    token_id: int
    logprob: float
    processed_logprob: float | None
    rank: int
    runners_up: tuple[tuple[int, float, float | None], ...]

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
class ScoredToken:
    """A token, what it spells, and how likely it was.

    Attributes:
        piece: the token and its bytes.
        score: None where it wasn't scored.
        runners_up: the other tokens of the score, as a person is shown them.
    """

    piece: Token
    score: TokenScore | None
    runners_up: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: null for what is unknown or infinite."""
        values = {"id": self.piece.id, "text": self.piece.text, "bytes": self.piece.bytes.hex()}
        score = self.score
        if score is None:
            return values | {"probability": None, "bits": None, "rank": None, "runners_up": []}
        bits = score.surprisal_bits
        names = ("id", "piece", "probability", "processed_probability")
        others = [
            dict(zip(names, (i, piece, p, after), strict=True))
            for (i, p, after), piece in zip(score.runners_up, self.runners_up, strict=True)
        ]
        return values | {
            "probability": score.probability,
            "processed_probability": score.processed_probability,
            "bits": bits if math.isfinite(bits) else None,
            "rank": score.rank,
            "runners_up": others,
        }


def token_reader(tokenizer: "PreTrainedTokenizerBase") -> Callable[[int], Token]:
    """A function that says what a token spells, wherever it stands; its place is 0, 0."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    token_bytes = None if backend is None else TokenBytes.of(backend)
    known: dict[int, Token] = {}

    def read(token_id: int) -> Token:
        if token_id not in known:
            token = tokenizer.convert_ids_to_tokens(token_id)
            entry = token if isinstance(token, str) else f"⟨id {token_id}⟩"
            if not isinstance(token, str):  # a model may know more ids than its tokenizer
                raw = b""
            elif token_bytes is None:
                raw = str(tokenizer.decode([token_id])).encode()
            else:
                raw = token_bytes.of_entry(token, token_id)
            known[token_id] = _piece(token_id, entry, raw)
        return known[token_id]

    return read


def shown_token(piece: Token) -> str:
    """A token as `gptft tokenize` shows it: a space is ·, a byte of a character ⟨d0⟩."""
    return visible(piece.bytes) or piece.token


def scored_tokens(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], scores: Sequence[TokenScore]
) -> tuple[ScoredToken, ...]:
    """What each token of a text spells, with its score.

    Args:
        tokenizer: theirs.
        ids: a text's tokens from its beginning on.
        scores: of its last tokens; the first ones may have none. None of them may be missing where
            a token stands before the text that isn't among `ids`: more scores than ids is an error.
    """
    read = token_reader(tokenizer)
    pieces = [read(token_id) for token_id in ids]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and TokenBytes.of(backend).drops_first_space:
        spelled = [piece.bytes for piece in pieces]
        drop_first_space(spelled)
        pieces = [
            _piece(piece.id, piece.token, raw) for piece, raw in zip(pieces, spelled, strict=True)
        ]
    unscored = len(pieces) - len(scores)
    if unscored < 0:
        raise ValueError(f"{len(scores)} scores for {len(pieces)} tokens")
    return tuple(
        ScoredToken(
            piece,
            score,
            tuple(shown_token(read(i)) for i, _, _ in score.runners_up) if score else (),
        )
        for piece, score in zip(pieces, [*[None] * unscored, *scores], strict=True)
    )


def _piece(token_id: int, token: str, raw: bytes) -> Token:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = None
    return Token(token_id, token, raw, text, 0, 0)
