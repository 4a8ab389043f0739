"""Logits in, logits out: the cuts, bends and penalties that transformers doesn't have.

In: the ids so far of shape (B, T) and the logits of the next token, shape (B, V); -inf is a token
that was removed before and counts as not there. Out: new logits of shape (B, V), computed and
returned in float32 whatever came in. Each row is on its own, and none loses its last token. What is
to be done to the logits is in pure functions; the LogitsProcessor around each holds its settings,
whose ranges are those of `config.generation_fields`. Knows nothing of models, tokenizers and the
order in which processors run.
"""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import LogitsProcessor

from gptft.errors import ConfigError

_GONE = float("-inf")
_LN2 = math.log(2)
_LOWEST_TEMPERATURE = 1e-6  # what can still be divided by; near enough to the argmax
_FLAT = 1e-6  # second differences that sum to less than this are rounding
_LONGEST_REPEAT = 50  # tokens beyond the allowed ones; the penalty is out of reach long before
_HIGHEST_PENALTY = 1e30  # leaves a logit finite in float32


def top_n_sigma_keeps(logits: Tensor, *, top_n_sigma: float) -> Tensor:
    """Which tokens are within `top_n_sigma` standard deviations of the highest logit.

    Args:
        logits: shape (B, V).
        top_n_sigma: standard deviations, > 0; the deviation is that of the tokens still there,
            divided by their number and not by one less.

    Returns:
        shape (B, V), bool.

    Source: Tang et al. 2024 (2411.07641).

    >>> logits = torch.tensor([[5.0, 3.0, 1.0, -1.0]])  # sigma 2.236
    >>> top_n_sigma_keeps(logits, top_n_sigma=1.0).tolist()
    [[True, True, False, False]]
    """
    there = logits > _GONE
    count = there.sum(-1, keepdim=True)
    mean = logits.where(there, 0.0).sum(-1, keepdim=True) / count
    variance = (logits - mean).where(there, 0.0).square().sum(-1, keepdim=True) / count
    return logits >= logits.amax(-1, keepdim=True) - top_n_sigma * variance.sqrt()


def top_a_keeps(logits: Tensor, *, top_a: float) -> Tensor:
    """Which tokens are at least as likely as `top_a` times the highest probability squared.

    Args:
        logits: shape (B, V).
        top_a: 0 to 1.

    Returns:
        shape (B, V), bool.

    Source: no paper; BlinkDL's RWKV-LM, 2021.

    >>> logits = torch.tensor([[0.6, 0.25, 0.1, 0.05]]).log()  # the cut is at 0.2 * 0.36 = 0.072
    >>> top_a_keeps(logits, top_a=0.2).tolist()
    [[True, True, True, False]]
    """
    probs = logits.softmax(-1)
    return probs >= top_a * probs.amax(-1, keepdim=True).square()


def tail_free_keeps(logits: Tensor, *, tfs_z: float) -> Tensor:
    """Which tokens come before the sorted probabilities flatten out.

    The second differences of the sorted probabilities, absolute and divided by their sum, are added
    up from the likeliest token on. A token is cut where those up to the one centred on it exceed
    `tfs_z`. The first token has none and is kept; the last has none and counts as 1. Where there
    are no second differences to speak of (fewer than 3 tokens, or all alike) nothing is cut.

    Args:
        logits: shape (B, V).
        tfs_z: above 0, at most 1; at 1 nothing is cut.

    Returns:
        shape (B, V), bool.

    Source: Phénix and Egan 2019, Tail Free Sampling; centred as in text-generation-webui, where
    llama.cpp cuts a token earlier.

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()  # differences 0.05, 0.05: 0.5, 1
    >>> tail_free_keeps(logits, tfs_z=0.6).tolist()
    [[True, True, False, False]]
    """
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probs = logits.softmax(-1).gather(-1, order)
    bends = probs.diff(n=2).abs()
    num_bends = (logits > _GONE).sum(-1, keepdim=True) - 2
    bends = bends.where(torch.arange(bends.shape[-1], device=logits.device) < num_bends, 0.0)
    total = bends.sum(-1, keepdim=True)
    shares = bends.cumsum(-1) / total
    cut = torch.ones_like(probs)
    cut[:, :1] = 0.0
    cut[:, 1:-1] = shares.clamp(max=1.0)
    # All bends of a row are at or before the last but one of the tokens still there: what follows
    # that one has none and counts as 1.
    ranks = torch.arange(probs.shape[-1], device=logits.device)
    cut = cut.where((ranks <= num_bends) | (ranks == 0), 1.0)
    keeps = (cut <= tfs_z) | (total < _FLAT)
    return torch.zeros_like(keeps).scatter(-1, order, keeps)


def entropy_temperature(logits: Tensor, *, low: float, high: float, exponent: float) -> Tensor:
    """The temperature low + (high - low) * (H / Hmax) ** exponent of each row.

    H is the entropy of the row, Hmax that of as many equally likely tokens as are still there. A
    row with a single token has the temperature 1.

    Args:
        logits: shape (B, V).
        low: where the model is sure, > 0.
        high: where all tokens are equally likely.
        exponent: > 0.

    Returns:
        shape (B, 1).

    Source: no paper; kalomaze 2023, llama.cpp's dynatemp.

    >>> logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf, -99.0]])
    >>> entropy_temperature(logits, low=0.5, high=1.5, exponent=1.0)  # 1 and ln 2 / ln 3
    tensor([[1.5000],
            [1.1309]])
    """
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1, keepdim=True)
    count = (logits > _GONE).sum(-1, keepdim=True)
    share = (entropy / count.clamp(min=2).log()).clamp(0.0, 1.0)
    temperature: Tensor = low + (high - low) * share.pow(exponent)
    return temperature.where(count > 1, 1.0)


def smoothed(logits: Tensor, *, smoothing_factor: float, smoothing_curve: float) -> Tensor:
    """Bend the logits around the highest one: max - k * f * d**2 + s * f * d**3.

    d is a logit minus the highest, f the factor, k = (3 - curve) / 2 and s = (curve - 1) / 2. With
    curve 1 that is the parabola max - f * d**2.

    Args:
        logits: shape (B, V).
        smoothing_factor: > 0.
        smoothing_curve: 1 to 3. Above 3 the formula lifts tokens near the likeliest above it.

    Returns:
        shape (B, V).

    Source: no paper; kalomaze 2024, text-generation-webui's smoothing_factor and smoothing_curve.

    >>> logits = torch.tensor([[4.0, 3.0, 2.0]])
    >>> smoothed(logits, smoothing_factor=0.5, smoothing_curve=1.0).tolist()
    [[4.0, 3.5, 2.0]]
    >>> smoothed(logits, smoothing_factor=0.5, smoothing_curve=2.0).tolist()
    [[4.0, 3.5, 1.0]]
    """
    k, s = (3 - smoothing_curve) / 2, (smoothing_curve - 1) / 2
    highest = logits.amax(-1, keepdim=True)
    # A removed token has no distance; -inf squared times 0 would be no number.
    distance = (logits - highest).where(logits > _GONE, 0.0)
    bent = highest + smoothing_factor * distance.square() * (s * distance - k)
    return bent.where(logits > _GONE, _GONE)


def xtc_removes(logits: Tensor, *, xtc_threshold: float) -> Tensor:
    """Which tokens have the threshold's probability or more, all but the least likely of them.

    Args:
        logits: shape (B, V).
        xtc_threshold: above 0; above 0.5 there can't be two such tokens, and so none is removed.

    Returns:
        shape (B, V), bool. Of equally likely ones the first counts as the least likely.

    Source: no paper; p-e-w 2024, Exclude Top Choices (text-generation-webui 6335).

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> xtc_removes(logits, xtc_threshold=0.1).tolist()
    [[True, True, False, False]]
    """
    above = logits.softmax(-1) >= xtc_threshold
    least = logits.where(above, torch.inf).argmin(-1, keepdim=True)
    return above.scatter(-1, least, False)


def mirostat_keeps(log_probs: Tensor, mu: Tensor) -> Tensor:
    """Which tokens have a surprise of `mu` bits or less; the likeliest has in any case.

    Args:
        log_probs: shape (B, V), natural logarithms.
        mu: shape (B, 1), bits.

    Returns:
        shape (B, V), bool.

    Source: Basu et al. 2021 (2007.14966), version 2, as llama.cpp has it.
    """
    keeps = (-log_probs / _LN2 <= mu) & (log_probs > _GONE)
    return keeps.scatter(-1, log_probs.argmax(-1, keepdim=True), True)


def zipf_exponent(log_probs: Tensor, *, mirostat_m: int) -> Tensor:
    """The exponent s of the law p(rank) ~ rank**-s that fits the likeliest tokens best.

    With b the log-ratio of the probabilities of two neighbouring ranks and t that of the ranks, it
    is sum(t * b) / sum(t * t) over the ranks up to `mirostat_m`.

    Args:
        log_probs: shape (B, V).
        mirostat_m: tokens, >= 2; fewer where fewer are there.

    Returns:
        shape (B, 1), >= 0; 0 for a single token.

    Source: Basu et al. 2021 (2007.14966), algorithm 1.

    >>> zipf_exponent(torch.tensor([[1.0, 1 / 4, 1 / 9, 1 / 16]]).log(), mirostat_m=4)
    tensor([[2.]])
    """
    m = min(mirostat_m, log_probs.shape[-1])
    top = log_probs.topk(m, -1).values
    ranks = torch.arange(1, m + 1, device=log_probs.device, dtype=log_probs.dtype)
    b = (top[:, :-1] - top[:, 1:]).where(top[:, 1:] > _GONE, 0.0)
    t = ranks.log().diff().expand_as(b).where(top[:, 1:] > _GONE, 0.0)
    return (t * b).sum(-1, keepdim=True) / t.square().sum(-1, keepdim=True).clamp(min=1e-12)


def mirostat_top_k(s: Tensor, mu: Tensor, *, num_tokens: Tensor) -> Tensor:
    """How many of the likeliest tokens have a mean surprise of `mu` bits under Zipf's law.

    k = ((s - 1) * 2**mu / (1 - N**(1 - s))) ** (1 / s), rounded to the nearest.

    Args:
        s: the law's exponent, shape (B, 1).
        mu: bits, shape (B, 1).
        num_tokens: N, shape (B, 1); those still there.

    Returns:
        shape (B, 1), 1 to N.

    Source: Basu et al. 2021 (2007.14966), algorithm 1.
    """
    log_n = num_tokens.clamp(min=2).log()
    epsilon = s - 1
    # The fraction goes to 1 / ln N as s goes to 1. In logarithms nothing overflows.
    fraction = (epsilon / -torch.expm1(-epsilon * log_n)).where(epsilon != 0, 1 / log_n)
    log_k = (fraction.log() + mu * _LN2) / s.clamp(min=1e-6)
    k = torch.minimum(log_k, log_n).clamp(min=0.0).exp().round().to(num_tokens.dtype)
    return torch.minimum(k, num_tokens).clamp(min=1)


def repeat_lengths(
    ids: npt.ArrayLike, *, breaker_ids: Collection[int], longest: int
) -> dict[int, int]:
    """How long a repeat each token would extend.

    For a token that came up before: the length of the longest end of `ids` that stood right before
    it there. No repeat reaches over a breaker, and a breaker extends none.

    Args:
        ids: the text so far, shape (T,).
        breaker_ids: at which repeats end.
        longest: length beyond which it isn't looked, >= 1.

    Returns:
        the length by token, >= 1; tokens that extend none aren't there.

    >>> repeat_lengths([1, 2, 3, 9, 7, 2, 3], breaker_ids=[], longest=50)
    {9: 2}
    >>> repeat_lengths([1, 2, 3, 9, 7, 2, 3], breaker_ids=[2], longest=50)
    {9: 1}
    """
    text = np.asarray(ids)
    if len(text) == 0 or int(text[-1]) in breaker_ids:
        return {}
    lengths = np.zeros(
        len(text), dtype=np.int64
    )  # of the end of the text, by where it stood before
    ends = np.flatnonzero(text[:-1] == text[-1])
    for length in range(1, longest + 1):
        lengths[ends] = length
        if length == len(text) or int(text[-1 - length]) in breaker_ids:
            break
        ends = ends[ends >= length]
        ends = ends[text[ends - length] == text[-1 - length]]
        if len(ends) == 0:
            break
    found = np.flatnonzero(lengths)
    found = found[lengths[found].argsort(kind="stable")]  # the longest last: it counts
    tokens = zip(text[found + 1].tolist(), lengths[found].tolist(), strict=True)
    return {token: length for token, length in tokens if token not in breaker_ids}


def repeat_penalty(length: int, *, multiplier: float, base: float, allowed_length: int) -> float:
    """What a repeat of `length` tokens costs: multiplier * base ** (length - allowed_length).

    >>> repeat_penalty(4, multiplier=0.5, base=2.0, allowed_length=2)
    2.0
    >>> repeat_penalty(1, multiplier=0.5, base=2.0, allowed_length=2)
    0.0
    """
    if length < allowed_length or multiplier == 0:
        return 0.0
    exponent = length - allowed_length
    if math.log(multiplier) + exponent * math.log(base) >= math.log(_HIGHEST_PENALTY):
        return _HIGHEST_PENALTY
    return float(multiplier * base**exponent)


class TopNSigmaWarper(LogitsProcessor):
    """Keeps tokens by `top_n_sigma_keeps`, and the `min_tokens_to_keep` likeliest."""

    def __init__(self, top_n_sigma: float, *, min_tokens_to_keep: int = 1) -> None:
        self._top_n_sigma = top_n_sigma
        self._min_tokens_to_keep = min_tokens_to_keep

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V)."""
        logits = scores.float()
        keeps = top_n_sigma_keeps(logits, top_n_sigma=self._top_n_sigma)
        return _cut(logits, keeps, at_least=self._min_tokens_to_keep)


class TopAWarper(LogitsProcessor):
    """Keeps tokens by `top_a_keeps`, and the `min_tokens_to_keep` likeliest."""

    def __init__(self, top_a: float, *, min_tokens_to_keep: int = 1) -> None:
        self._top_a = top_a
        self._min_tokens_to_keep = min_tokens_to_keep

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V)."""
        logits = scores.float()
        return _cut(
            logits, top_a_keeps(logits, top_a=self._top_a), at_least=self._min_tokens_to_keep
        )


class TailFreeWarper(LogitsProcessor):
    """Keeps tokens by `tail_free_keeps`, and the `min_tokens_to_keep` likeliest."""

    def __init__(self, tfs_z: float, *, min_tokens_to_keep: int = 1) -> None:
        self._tfs_z = tfs_z
        self._min_tokens_to_keep = min_tokens_to_keep

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V)."""
        logits = scores.float()
        keeps = tail_free_keeps(logits, tfs_z=self._tfs_z)
        return _cut(logits, keeps, at_least=self._min_tokens_to_keep)


class DynamicTemperatureWarper(LogitsProcessor):
    """Divides by `entropy_temperature`, from temperature - range to temperature + range."""

    def __init__(
        self, *, temperature: float, dynatemp_range: float, dynatemp_exponent: float
    ) -> None:
        self._low = max(temperature - dynatemp_range, _LOWEST_TEMPERATURE)
        self._high = temperature + dynatemp_range
        self._exponent = dynatemp_exponent

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Divide logits of shape (B, V)."""
        logits = scores.float()
        return logits / entropy_temperature(
            logits, low=self._low, high=self._high, exponent=self._exponent
        )


class QuadraticSmoothingWarper(LogitsProcessor):
    """Bends the logits by `smoothed`."""

    def __init__(self, *, smoothing_factor: float, smoothing_curve: float) -> None:
        self._factor = smoothing_factor
        self._curve = smoothing_curve

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Bend logits of shape (B, V)."""
        return smoothed(scores.float(), smoothing_factor=self._factor, smoothing_curve=self._curve)


class XTCWarper(LogitsProcessor):
    """Removes tokens by `xtc_removes`, in a row with the probability `xtc_probability`.

    Each call draws one number a row from torch's global generator, needed or not. A row that would
    lose one of `keep_ids` stays as it is (text-generation-webui's rule, there for line end and EOS:
    without it texts and lines hardly end).
    """

    def __init__(
        self, *, xtc_probability: float, xtc_threshold: float, keep_ids: Iterable[int] = ()
    ) -> None:
        self._probability = xtc_probability
        self._threshold = xtc_threshold
        self._keep_ids = sorted(set(keep_ids))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Draw for each row of logits of shape (B, V), and cut."""
        logits = scores.float()
        drawn = torch.rand(len(logits), 1, device=logits.device) < self._probability
        removes = xtc_removes(logits, xtc_threshold=self._threshold)
        spared = removes[:, [i for i in self._keep_ids if i < logits.shape[-1]]].any(-1, True)
        return logits.masked_fill(removes & drawn & ~spared, _GONE)


class MirostatWarper(LogitsProcessor):
    """Mirostat 2: cuts by `mirostat_keeps`, its mu steered by what was drawn.

    mu starts at 2 tau with each new text. The surprise of the token drawn is taken after the cut,
    of probabilities that sum to 1 again, as llama.cpp and text-generation-webui take it: no
    processor that changes probabilities may come later.
    """

    def __init__(self, *, mirostat_tau: float, mirostat_eta: float) -> None:
        self._steering = _Steering(tau=mirostat_tau, eta=mirostat_eta)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V) after what `input_ids` end with."""
        logits = scores.float()
        mu = self._steering.mu_after(input_ids)
        kept = _cut(logits, mirostat_keeps(logits.log_softmax(-1), mu), at_least=1)
        self._steering.remember(input_ids, mu=mu, log_probs=kept.log_softmax(-1))
        return kept


class MirostatV1Warper(LogitsProcessor):
    """Mirostat 1: keeps the `mirostat_top_k` likeliest, its mu steered by what was drawn.

    mu starts at 2 tau with each new text. The surprise of the token drawn is taken before the cut,
    as in the paper and its authors' code; llama.cpp takes it after.
    """

    def __init__(self, *, mirostat_tau: float, mirostat_eta: float, mirostat_m: int) -> None:
        self._steering = _Steering(tau=mirostat_tau, eta=mirostat_eta)
        self._m = mirostat_m

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V) after what `input_ids` end with."""
        logits = scores.float()
        log_probs = logits.log_softmax(-1)
        mu = self._steering.mu_after(input_ids)
        num_tokens = (logits > _GONE).sum(-1, keepdim=True)
        k = mirostat_top_k(zipf_exponent(log_probs, mirostat_m=self._m), mu, num_tokens=num_tokens)
        order = logits.argsort(dim=-1, descending=True, stable=True)
        ranks = torch.arange(logits.shape[-1], device=logits.device).expand_as(order)
        keeps = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, ranks < k)
        self._steering.remember(input_ids, mu=mu, log_probs=_cut(log_probs, keeps, at_least=1))
        return _cut(logits, keeps, at_least=1)


class FrequencyPresencePenalty(LogitsProcessor):
    """Takes frequency * count + presence * (count > 0) off the logit of each token.

    The count is that of the token in the ids from `prompt_length` on: what was written, not what
    was asked.

    Source: OpenAI API reference, frequency_penalty and presence_penalty.
    """

    def __init__(
        self, *, frequency_penalty: float, presence_penalty: float, prompt_length: int
    ) -> None:
        self._frequency = frequency_penalty
        self._presence = presence_penalty
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Lower logits of shape (B, V) by what `input_ids` of shape (B, T) hold."""
        logits = scores.float()
        written = input_ids[:, self._prompt_length :]
        ones = torch.ones_like(written, dtype=logits.dtype)
        counts = torch.zeros_like(logits).scatter_add(-1, written, ones)
        return logits - self._frequency * counts - self._presence * (counts > 0)


class DryPenalty(LogitsProcessor):
    """Takes `repeat_penalty` off the logit of each token that would go on with a repeat.

    Repeats are looked for in the last `dry_penalty_last_n` ids, prompt included; 0 is all of them.
    Padding isn't told from text here: have its id among `breaker_ids`.

    Source: no paper; p-e-w 2024, Don't Repeat Yourself (text-generation-webui 5677), whose rule it
    is as well that breakers aren't penalized.
    """

    def __init__(
        self,
        *,
        dry_multiplier: float,
        dry_base: float,
        dry_allowed_length: int,
        dry_penalty_last_n: int,
        breaker_ids: Iterable[int],
    ) -> None:
        self._multiplier = dry_multiplier
        self._base = dry_base
        self._allowed_length = dry_allowed_length
        self._last_n = dry_penalty_last_n
        self._breaker_ids = frozenset(breaker_ids)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Lower logits of shape (B, V) by what `input_ids` of shape (B, T) hold."""
        logits = scores.float()
        penalties = np.zeros(logits.shape, dtype=np.float32)
        for row, ids in zip(penalties, input_ids[:, -self._last_n :].cpu().numpy(), strict=True):
            lengths = repeat_lengths(
                ids,
                breaker_ids=self._breaker_ids,
                longest=self._allowed_length + _LONGEST_REPEAT,
            )
            for token, length in lengths.items():
                row[token] = repeat_penalty(
                    length,
                    multiplier=self._multiplier,
                    base=self._base,
                    allowed_length=self._allowed_length,
                )
        return logits - torch.from_numpy(penalties).to(logits.device)


class AllowedTokens(LogitsProcessor):
    """Keeps only `allowed_ids`; have EOS among them where a text is to end.

    A row of which all allowed tokens were removed before, as a forced EOS does, stays as it is.

    Raises:
        ConfigError: no ids, or, when it is called, one that the model doesn't have.
    """

    def __init__(self, allowed_ids: Iterable[int]) -> None:
        self._ids = torch.tensor(sorted(set(allowed_ids)), dtype=torch.long)
        if len(self._ids) == 0:
            raise ConfigError("allowed_words: there is no token to write. Name at least one word.")

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Cut logits of shape (B, V)."""
        logits = scores.float()
        _check_ids(self._ids, vocab_size=logits.shape[-1], setting="allowed_words")
        allowed = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        allowed[self._ids.to(logits.device)] = True
        none_left = ~(allowed & (logits > _GONE)).any(-1, keepdim=True)
        return logits.masked_fill(~(allowed | none_left), _GONE)


class LogitBias(LogitsProcessor):
    """Adds a number to the logits of some tokens, by id; what was removed stays so.

    Raises:
        ConfigError: a bias isn't finite, or, when it is called, the model doesn't have a token.
    """

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._ids = torch.tensor(list(biases), dtype=torch.long)
        self._biases = torch.tensor(list(biases.values()), dtype=torch.float32)
        if not self._biases.isfinite().all():
            raise ConfigError(
                "logit_bias: a bias is infinite or no number. Give -100 or bad_words to rule a "
                "token out."
            )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Move logits of shape (B, V)."""
        logits = scores.float()
        _check_ids(self._ids, vocab_size=logits.shape[-1], setting="logit_bias")
        biases = torch.zeros(logits.shape[-1], device=logits.device)
        biases[self._ids.to(logits.device)] = self._biases.to(logits.device)
        return logits + biases


class _Steering:
    """mu of each row, moved by the surprise of what was drawn: mu - eta * (surprise - tau).

    mu starts at 2 tau, and does so again in all rows when the ids aren't those of the call before
    and one more a row. A token that couldn't be drawn, such as the padding of a row that has ended,
    moves nothing.
    """

    def __init__(self, *, tau: float, eta: float) -> None:
        self._tau = tau
        self._eta = eta
        self._before: tuple[Tensor, Tensor, Tensor] | None = None

    def mu_after(self, input_ids: Tensor) -> Tensor:
        """The bits of each row, shape (B, 1), after ids of shape (B, T)."""
        if self._before is None or not torch.equal(self._before[0], input_ids[:, :-1]):
            return torch.full((len(input_ids), 1), 2 * self._tau, device=input_ids.device)
        _, mu, log_probs = self._before
        surprise = -log_probs.gather(-1, input_ids[:, -1:]) / _LN2
        return (mu - self._eta * (surprise - self._tau)).where(surprise.isfinite(), mu)

    def remember(self, input_ids: Tensor, *, mu: Tensor, log_probs: Tensor) -> None:
        """Keep the log-probabilities of the tokens that may be drawn next, shape (B, V)."""
        self._before = (input_ids.clone(), mu, log_probs)


def _cut(logits: Tensor, keeps: Tensor, *, at_least: int) -> Tensor:
    """Remove what isn't kept, except for the `at_least` likeliest tokens."""
    likeliest = logits.topk(min(at_least, logits.shape[-1]), -1).indices
    return logits.masked_fill(~keeps.scatter(-1, likeliest, True), _GONE)


def _check_ids(ids: Tensor, *, vocab_size: int, setting: str) -> None:
    for token in ids.tolist():
        if not 0 <= token < vocab_size:
            raise ConfigError(
                f"{setting}: the model has no id {token:,}, only 0 to {vocab_size - 1:,}."
            )
