"""A model and texts -> how likely each token was: what `gptft score` and choices by score need.

In: token ids, or a model's name and a text. Out: a frozen `TokenScore` a token, sums a row. Every
number comes from teacher forcing: the text is given, nothing is drawn. Logits are taken as float32
and in pieces, so that memory doesn't grow with the length of a text.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from gptft.decoding.special import check_ids, special_tokens
from gptft.decoding.text import encode_prompt
from gptft.decoding.token_view import ScoredPiece, scored_pieces
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of, load_auto_tokenizer, load_for_inference
from gptft.models.precision import DtypeName, pick_device

_LOGITS_AT_ONCE = 2**24  # numbers held in one piece: 64 MiB as float32


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
class TextScore:
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
    """

    model: str
    tokens: tuple[ScoredPiece, ...]
    begins_after: str | None
    num_bytes: int
    context: int | None
    lossless: bool

    @property
    def scores(self) -> list[TokenScore]:
        """Those of the tokens that have one."""
        return [token.score for token in self.tokens if token.score is not None]

    @property
    def num_tokens(self) -> int:
        """Tokens that are scored."""
        return len(self.scores)

    @property
    def bits(self) -> float:
        """What the whole text would cost to write down with this model: the sum of surprisals."""
        return math.fsum(score.surprisal_bits for score in self.scores)

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

    def to_dict(self) -> dict[str, Any]:
        """The numbers and every token, as JSON has them; null for what is infinite."""
        return {
            "model": self.model,
            "num_tokens": self.num_tokens,
            "num_bytes": self.num_bytes,
            "bits": _finite(self.bits),
            "bits_per_token": _finite(self.bits_per_token),
            "bits_per_byte": _finite(self.bits_per_byte),
            "perplexity": _finite(self.perplexity),
            "begins_after": self.begins_after,
            "context": self.context,
            "lossless": self.lossless,
            "tokens": [token.to_dict() for token in self.tokens],
        }


def text_score(
    model_name: str,
    text: str,
    *,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
    num_runners_up: int = 5,
) -> TextScore:
    """Load a model and score every token of `text`.

    The text begins after what its tokenizer puts before one, else after BOS or EOS; where there is
    none of these its first token isn't scored. No EOS is put after it.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        text: as it is; `<|endoftext|>` in it is text.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: leave an accelerator alone.
        num_runners_up: other tokens to keep for each.

    Raises:
        ConfigError: there is nothing to score, or the text is no Unicode.
        ModelError: the model can't be found or read, or its logits are no numbers.
    """
    num_bytes = len(_encoded(text))
    if not text:
        raise ConfigError("The text is empty. Give one of at least a character.")
    model, tokenizer = open_model(model_name, dtype=dtype, revision=revision, use_cpu=use_cpu)
    before, ids = split_start(model, tokenizer, text)
    everything = [*before, *ids]
    check_ids(model, [everything])
    if len(everything) < 2:
        raise ConfigError(
            "The text is one token, and this model has neither BOS nor EOS to begin a text with. "
            "Give it a longer one."
        )
    scores = score_tokens(
        model, everything, start=max(len(before), 1), num_runners_up=num_runners_up
    )
    tokens = scored_pieces(tokenizer, ids, scores)
    unscored = b"".join(token.piece.bytes for token in tokens if token.score is None)
    context = context_of(model)
    return TextScore(
        model=model_name,
        tokens=tokens,
        begins_after=str(tokenizer.convert_ids_to_tokens(before[-1])) if before else None,
        num_bytes=num_bytes - len(unscored),
        context=context if context is not None and len(everything) - 1 > context else None,
        lossless=b"".join(token.piece.bytes for token in tokens) == text.encode(),
    )


@torch.no_grad()
def score_tokens(
    model: PreTrainedModel,
    ids: Sequence[int],
    *,
    start: int,
    processors: LogitsProcessorList | None = None,
    num_runners_up: int = 5,
) -> list[TokenScore]:
    """Score the tokens of a text from `start` on.

    A text longer than the model's context is read through a window that moves on by half a context
    at a time: a token sees everything before it up to the context's length, and beyond that at
    least half a context.

    Args:
        model: a causal one, in eval mode.
        ids: T token ids.
        start: the first one to score, >= 1: a token is scored by what stands before it.
        processors: called once a token, in order, with all ids before it, shape (1, t), and the
            model's logits, shape (1, V); a token that isn't scored is passed over.
        num_runners_up: other tokens to keep for each.

    Returns:
        T - start scores.

    Raises:
        ModelError: the model's logits are no numbers.

    Source: the moving window is that of Baevski and Auli 2019 (1809.10853), as Press et al. 2021
    (2012.15832), section 2, describe it.
    """
    _check_start(ids, start)
    row = torch.tensor([list(ids)], device=model.device)
    scores: list[TokenScore] = []
    for first, logits in _logits(model, row[:, :-1], row.new_ones(row.shape), first=start - 1):
        targets = row[0, first + 1 : first + 1 + logits.shape[1]]
        processed = None
        if processors:
            processed = _processed(processors, row, logits, first=first)
        scores += _token_scores(logits[0], processed, targets, num_runners_up=num_runners_up)
    return scores


@torch.no_grad()
def sequence_logprobs(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    *,
    starts: Sequence[int],
    batch_size: int = 16,
) -> list[float]:
    """The log-probability of the end of each row, given its beginning.

    Rows are padded on the right, masked, so that each sum is what its row alone would give, but
    for rounding. Long rows go through the window of `score_tokens`.

    Args:
        model: a causal one, in eval mode.
        rows: token ids; lengths may differ.
        starts: by row, the first token that counts, >= 1; one past the last for none of them: 0.0.
        batch_size: rows at once, of similar length.

    Returns:
        sums of natural logarithms, in the order of the rows.

    Raises:
        ModelError: the model's logits are no numbers.
    """
    for row, start in zip(rows, starts, strict=True):
        _check_start(row, start)
    sums = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in range(0, len(order), batch_size):
        batch = [i for i in order[at : at + batch_size] if len(rows[i]) > starts[i]]
        if not batch:
            continue
        ends = torch.tensor([len(rows[i]) for i in batch], device=model.device)
        begins = torch.tensor([starts[i] for i in batch], device=model.device)
        longest = max(len(rows[i]) for i in batch)
        ids = torch.tensor(
            [[*rows[i], *[0] * (longest - len(rows[i]))] for i in batch], device=model.device
        )
        places = torch.arange(longest, device=model.device)
        mask = (places < ends[:, None]).long()
        counted = (places >= begins[:, None]) & (places < ends[:, None])
        total = torch.zeros(len(batch), dtype=torch.float64)  # not every device has float64
        first_needed = min(starts[i] for i in batch) - 1
        for first, logits in _logits(model, ids[:, :-1], mask, first=first_needed, counted=counted):
            here = slice(first + 1, first + 1 + logits.shape[1])
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, here, None])[..., 0]
            # Not a product: what isn't counted may be infinite.
            total += logprobs.masked_fill(~counted[:, here], 0.0).cpu().double().sum(-1)
        for i, value in zip(batch, total.tolist(), strict=True):
            sums[i] = value
    return sums


def open_model(
    name: str, *, dtype: DtypeName = "auto", revision: str | None = None, use_cpu: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode and its tokenizer, without a progress bar or warnings.

    Raises:
        ModelError: it can't be found or read.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    tokenizer = load_auto_tokenizer(name, revision=revision)
    device = pick_device(use_cpu=use_cpu)
    return load_for_inference(name, device=device, dtype=dtype, revision=revision), tokenizer


def check_logits(logits: torch.Tensor) -> None:
    """Refuse logits that are no numbers.

    Raises:
        ModelError: one of them isn't.
    """
    if torch.isnan(logits).any():
        raise ModelError(
            "The model's logits are not numbers. Its training went astray, or its dtype is too "
            "narrow: try --dtype float32."
        )


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"Character {error.start + 1:,} of the text is U+{ord(text[error.start]):04X}, half of "
            "a surrogate pair: the text was not UTF-8 to begin with. Convert it, or give it with "
            "--file."
        ) from None


def split_start(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[list[int], list[int]]:
    """What stands before a text, maybe nothing, and the ids of the text itself.

    Before it stands what its tokenizer puts there, else BOS or EOS, else nothing.
    """
    encoding = tokenizer(text, split_special_tokens=True, add_special_tokens=False, verbose=False)
    ids = list(encoding["input_ids"])
    whole = encode_prompt(tokenizer, text)
    before = whole[: len(whole) - len(ids)]
    start = special_tokens(model, tokenizer).start
    return before or ([] if start is None else [start]), ids


def _check_start(ids: Sequence[int], start: int) -> None:
    if not 1 <= start <= len(ids):
        raise ValueError(f"start is {start}, and of {len(ids)} tokens 1 to {len(ids)} can be it")


def _windows(num_inputs: int, *, context: int | None, first: int) -> Iterator[tuple[int, int, int]]:
    """Spans of inputs to read at once: begin, end, and the first one not yet read or not needed.

    >>> list(_windows(10, context=4, first=0))
    [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    >>> list(_windows(10, context=4, first=7))
    [(4, 8, 7), (6, 10, 8)]
    """
    if context is None or num_inputs <= context:
        yield 0, num_inputs, first
        return
    stride = max(context // 2, 1)
    begin, read = 0, 0
    while read < num_inputs:
        end = min(begin + context, num_inputs)
        if end > first:
            yield begin, end, max(read, first)
        begin, read = begin + stride, end


def _logits(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    mask: torch.Tensor,
    *,
    first: int,
    counted: torch.Tensor | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits after each input from `first` on, in order, in pieces.

    Args:
        model: a causal one.
        inputs: shape (B, T), padded on the right.
        mask: shape (B, at least T), 1 where there is a token.
        first: the first input whose logits are needed.
        counted: shape (B, T + 1), which tokens' scores matter; all of them if not given.

    Yields:
        the number of an input, and float32 logits of shape (B, t, V) from that input on.
    """
    num_rows, num_inputs = inputs.shape
    vocab = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    at_once = max(_LOGITS_AT_ONCE // (vocab * num_rows), 1)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    for begin, end, new in _windows(num_inputs, context=context_of(model), first=first):
        cache = None
        for at in range(begin, end, at_once):
            stop = min(at + at_once, end)
            given: dict[str, Any] = {"use_cache": cache is not None or stop < end}
            if cache is not None:
                given["past_key_values"] = cache
            if takes_positions:
                places = torch.arange(at - begin, stop - begin, device=inputs.device)
                given["position_ids"] = places.expand(num_rows, -1)
            output = model(
                input_ids=inputs[:, at:stop], attention_mask=mask[:, begin:stop], **given
            )
            cache = output.past_key_values if stop < end else None
            if stop <= new:
                continue
            logits = output.logits[:, max(new - at, 0) :].float()
            del output
            from_here = max(new, at)
            if counted is None:
                check_logits(logits)
            else:
                check_logits(logits[counted[:, from_here + 1 : stop + 1]])
            yield from_here, logits


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


def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Log-softmax over the last dimension; minus infinity all over where no token is left."""
    return scores.float().log_softmax(-1).nan_to_num(nan=-math.inf, neginf=-math.inf)


def _token_scores(
    logits: torch.Tensor,
    processed: torch.Tensor | None,
    targets: torch.Tensor,
    *,
    num_runners_up: int,
) -> Iterator[TokenScore]:
    """Logits of shape (t, V), log-probabilities of shape (t, V) or None, ids of shape (t,)."""
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(-1, targets[:, None])
    ranks = (logprobs > own).sum(-1) + 1
    best = logprobs.topk(min(num_runners_up + 1, logprobs.shape[-1]), dim=-1)
    after = after_best = None
    if processed is not None:
        after = processed.gather(-1, targets[:, None])[:, 0].tolist()
        after_best = processed.gather(-1, best.indices).exp().tolist()
    columns = (targets.tolist(), own[:, 0].tolist(), ranks.tolist())
    for i, (token, logprob, rank) in enumerate(zip(*columns, strict=True)):
        others = zip(
            best.indices[i].tolist(),
            best.values[i].exp().tolist(),
            after_best[i] if after_best is not None else [None] * best.indices.shape[-1],
            strict=True,
        )
        yield TokenScore(
            token_id=token,
            logprob=logprob,
            processed_logprob=after[i] if after is not None else None,
            rank=rank,
            runners_up=tuple(other for other in others if other[0] != token)[:num_runners_up],
        )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
