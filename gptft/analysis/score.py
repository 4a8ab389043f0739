"""A model and a text -> how likely each token was: what `gptft score` needs.

Every number comes from teacher forcing: the text is given, nothing is drawn. Logits are taken as
float32 and in chunks, so that memory doesn't grow with the length of a text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import LogitsProcessorList, PreTrainedModel

from gptft.analysis.scored_tokens import ScoredTokens, TokenScore, TokenScores, scored_tokens
from gptft.console import stage
from gptft.decoding.encoding import encode_bare
from gptft.decoding.loaded_model import open_model
from gptft.decoding.logprobs import check_start, chunked_logits, log_probabilities
from gptft.decoding.special_tokens import check_ids, num_embeddings, special_tokens
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.models.load import context_of
from gptft.models.precision import DtypeName
from gptft.terminal.words import count
from gptft.tokenization.tokens import utf8_bytes


@dataclass(frozen=True)
class TextScore(JsonFields):
    """A text and how well a model expects it.

    Attributes:
        model: its name.
        tokens: those of the text, in order; the first has no score where nothing could stand
            before it.
        begins_after: the token that was put before the text, or None where the model has neither
            BOS nor EOS.
        num_bytes: bytes of UTF-8 in what is scored.
        context: the model's, in tokens, where the text is longer; a token beyond it then sees at
            least half as many before it. None where every token sees all of the text before it.
        lossless: whether the tokens spell the very text.
        other: the same text for another model, where it was compared with one.
    """

    json_names = (
        "model", "num_tokens", "num_bytes", "bits", "bits_per_token", "bits_per_byte", "perplexity",
        "begins_after", "context", "lossless", "tokens",
    )  # fmt: skip

    model: str
    tokens: ScoredTokens
    begins_after: str | None
    num_bytes: int
    context: int | None
    lossless: bool
    other: "TextScore | None" = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are scored."""
        return len(self.tokens.scores)

    @cached_property
    def bits(self) -> float:
        """The sum of surprisals: bits to store the text in, compressed with this model."""
        return math.fsum(score.surprisal_bits for score in self.tokens.scores)

    @property
    def bits_per_token(self) -> float:
        """The mean surprisal."""
        return self.bits / self.num_tokens

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable across tokenizers; None where what is scored spells nothing."""
        return self.bits / self.num_bytes if self.num_bytes else None

    @property
    def perplexity(self) -> float:
        """2 to the power of the mean surprisal: comparable under one tokenizer only."""
        bits = self.bits_per_token
        return 2.0**bits if bits < 1024 else math.inf  # float64 ends there

    @cached_property
    def has_same_tokens(self) -> bool:
        """Whether the other model reads the text as the same tokens: only then do these compare."""
        return self.other is not None and _pieces(self) == _pieces(self.other)

    @cached_property
    def gains(self) -> tuple[float | None, ...] | None:
        """By token, the bits that the other model needs for it and this one doesn't.

        None for a token that one of them doesn't score, or gives no chance; None as a whole where
        there is no other model, or one that has other tokens.
        """
        if self.other is None or not self.has_same_tokens:
            return None
        return tuple(
            _difference(ours.score, theirs.score)
            for ours, theirs in zip(self.tokens, self.other.tokens, strict=True)
        )

    def json_fields(self) -> dict[str, Any]:
        """As JSON has it; what is of the other model only where there is one."""
        values = super().json_fields()
        if self.other is None:
            return values
        compared = {"same_tokens": self.has_same_tokens, "gained_bits": self.gains}
        return {**values, **compared, "other": self.other}

    def summary_fields(self) -> dict[str, Any]:
        """What JSON has of the whole text, without its tokens."""
        left_out = ("tokens", "gained_bits")
        values = {name: value for name, value in self.json_fields().items() if name not in left_out}
        return values if self.other is None else values | {"other": self.other.summary_fields()}


def _pieces(score: TextScore) -> list[tuple[int, bytes]]:
    return [(token.id, token.bytes) for token in score.tokens.tokens]


def _difference(ours: TokenScore | None, theirs: TokenScore | None) -> float | None:
    if ours is None or theirs is None:
        return None
    bits = theirs.surprisal_bits - ours.surprisal_bits
    return bits if math.isfinite(bits) else None


def score(
    model_name: str,
    text: str,
    *,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
    num_runners_up: int = 5,
    other_model_name: str | None = None,
) -> TextScore:
    """Load a model and score every token of `text`; then another, where it is to be compared.

    The text begins after what its tokenizer puts before one, else after BOS or EOS; where there is
    none of these its first token isn't scored. No EOS is put after it.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        text: as it is; `<|endoftext|>` in it is text.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: run on the CPU even if an accelerator is available.
        num_runners_up: other tokens to keep for each.
        other_model_name: of any model; the two are never in memory together.

    Raises:
        ConfigError: there is nothing to score, or the text is no Unicode.
        ModelError: the model can't be found or read, or its logits are not numbers.
    """
    if not text:
        raise ConfigError("The text is empty. Give one of at least a character.")
    utf8_bytes(text)  # half of a surrogate pair is found before the seconds that loading takes
    loading: dict[str, Any] = {"dtype": dtype, "use_cpu": use_cpu}
    found = _score(model_name, text, num_runners_up=num_runners_up, revision=revision, **loading)
    if other_model_name is None:
        return found
    return replace(
        found, other=_score(other_model_name, text, num_runners_up=num_runners_up, **loading)
    )


def _score(model_name: str, text: str, *, num_runners_up: int, **loading: Any) -> TextScore:
    model, tokenizer = open_model(model_name, **loading)
    special, ids = special_tokens(model, tokenizer), encode_bare(tokenizer, text)
    before = special.before
    everything = [*before, *ids]
    check_ids(model, [everything])
    if len(everything) < 2:
        raise ConfigError(
            "The text is one token, and this model has neither BOS nor EOS to begin a text with. "
            "Give it a longer one."
        )
    start = max(len(before), 1)
    with stage(f"Scoring {count(len(ids), 'token')}"):
        scores = score_tokens(
            model, everything, start=start, kept=len(special.prefix), num_runners_up=num_runners_up
        )
    tokens = scored_tokens(tokenizer, ids, scores)
    raws = [token.bytes for token in tokens.tokens]
    unscored = b"".join(raws[: len(ids) - len(scores)])
    context = context_of(model)
    return TextScore(
        model=model_name,
        tokens=tokens,
        begins_after=str(tokenizer.convert_ids_to_tokens(before[-1])) if before else None,
        num_bytes=len(text.encode()) - len(unscored),
        context=context if context is not None and len(everything) - 1 > context else None,
        lossless=b"".join(raws) == text.encode(),
    )


@torch.no_grad()
def score_tokens(
    model: PreTrainedModel,
    ids: Sequence[int],
    *,
    start: int,
    kept: int = 0,
    processors: LogitsProcessorList | None = None,
    num_runners_up: int = 5,
) -> TokenScores:
    """Score the tokens of a text from `start` on.

    A text longer than the model's context is read through a window that moves on by half a context
    at a time: a token sees everything before it up to the context's length, and beyond that at
    least half a context.

    Args:
        model: a causal one, in eval mode.
        ids: T token ids.
        start: the first one to score, >= 1: a token is scored by what stands before it.
        kept: ids at the beginning, BOS, that stand in front of every window.
        processors: called once a token, in order, with all ids before it, shape (1, t), and the
            model's logits, shape (1, V); a token that isn't scored is skipped.
        num_runners_up: other tokens to keep for each.

    Returns:
        T - start scores.

    Raises:
        ModelError: the model's logits are not numbers.

    Source: the moving window is that of Baevski and Auli 2019 (1809.10853), as Press et al. 2021
    (2012.15832), section 2, describe it.
    """
    check_start(ids, start)
    row = torch.tensor([list(ids)], device=model.device)  # (1, T)
    scores = TokenScores.empty(
        len(ids) - start,
        num_runners_up=num_runners_up,
        vocab_size=num_embeddings(model),
        is_processed=bool(processors),
    )
    for first, logits in chunked_logits(
        model, row[:, :-1], torch.ones_like(row), first=start - 1, kept=kept
    ):
        # Logits after input i are of token i + 1; shape (t,).
        targets = row[0, first + 1 : first + 1 + logits.shape[1]]
        processed = _processed(processors, row, logits, first=first) if processors else None
        _keep(scores, first + 1 - start, logits[0], processed, targets)
    return scores


def _processed(
    processors: LogitsProcessorList, row: torch.Tensor, logits: torch.Tensor, *, first: int
) -> torch.Tensor:
    """Logits of shape (1, t, V), each through the processors -> log-probabilities (t, V)."""
    steps = [
        # A processor may write into what it is given.
        processors(row[:, : first + 1 + i], logits[:, i].clone())  # type: ignore[arg-type]
        for i in range(logits.shape[1])
    ]
    return log_probabilities(torch.cat(steps))


def _keep(
    scores: TokenScores,
    first: int,
    logits: torch.Tensor,
    processed: torch.Tensor | None,
    targets: torch.Tensor,
) -> None:
    """Put the scores of t tokens in, from `first` on.

    Args:
        scores: of the whole text.
        first: a number in `scores`.
        logits: shape (t, V).
        processed: log-probabilities after all processors, shape (t, V), where there are some.
        targets: the tokens, shape (t,).
    """
    here = slice(first, first + len(targets))
    logprobs = logits.log_softmax(-1)  # (t, V)
    own = logprobs.gather(-1, targets[:, None])  # (t, 1)
    best = logprobs.topk(scores.likeliest.shape[1], dim=-1)  # (t, R)
    scores.token_ids[here] = targets.cpu()
    scores.logprobs[here] = own[:, 0].cpu()
    scores.ranks[here] = ((logprobs > own).sum(-1) + 1).cpu()
    scores.likeliest[here] = best.indices.cpu()
    scores.probabilities[here] = best.values.exp().cpu()
    if processed is not None:
        scores.processed_logprobs[here] = processed.gather(-1, targets[:, None])[:, 0].cpu()
        scores.processed_probabilities[here] = processed.gather(-1, best.indices).exp().cpu()
