"""Mirostat: a cut that steers the mean surprise of the tokens drawn."""

import math
from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number, whole
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


_LN2 = math.log(2)


def mirostat_keeps(log_probs: "Tensor", mu: "Tensor") -> "Tensor":
    """Which tokens have a surprise of `mu` bits or less; the likeliest has in any case.

    Args:
        log_probs: shape (B, V), natural logarithms.
        mu: shape (B, 1), bits.

    Returns:
        shape (B, V), bool.

    Source: Basu et al. 2021 (2007.14966), version 2, as llama.cpp has it.
    """
    keeps = (-log_probs / _LN2 <= mu) & (log_probs > float("-inf"))
    return keeps.scatter(-1, log_probs.argmax(-1, keepdim=True), True)


def zipf_exponent(log_probs: "Tensor", *, mirostat_m: int) -> "Tensor":
    """The exponent s of the law p(rank) ~ rank**-s that fits the likeliest tokens best.

    With b the log-ratio of the probabilities of two neighbouring ranks and t that of the ranks, it
    is sum(t * b) / sum(t * t) over the ranks up to `mirostat_m`.

    Args:
        log_probs: shape (B, V).
        mirostat_m: tokens, >= 2; fewer where fewer are there.

    Returns:
        shape (B, 1), >= 0; 0 for a single token.

    Source: Basu et al. 2021 (2007.14966), algorithm 1.

    >>> import torch
    >>> zipf_exponent(torch.tensor([[1.0, 1 / 4, 1 / 9, 1 / 16]]).log(), mirostat_m=4)
    tensor([[2.]])
    """
    import torch

    m = min(mirostat_m, log_probs.shape[-1])
    top = log_probs.topk(m, -1).values  # (B, m)
    ranks = torch.arange(1, m + 1, device=log_probs.device, dtype=log_probs.dtype)
    # b and t have shape (B, m - 1); a pair with a token that was removed counts as none.
    b = (top[:, :-1] - top[:, 1:]).where(top[:, 1:] > float("-inf"), 0.0)
    t = ranks.log().diff().expand_as(b).where(top[:, 1:] > float("-inf"), 0.0)
    # Of a single token both sums are 0: the clamp makes 0 of their ratio.
    return (t * b).sum(-1, keepdim=True) / t.square().sum(-1, keepdim=True).clamp(min=1e-12)


def mirostat_top_k(s: "Tensor", mu: "Tensor", *, num_tokens: "Tensor") -> "Tensor":
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
    import torch

    log_n = num_tokens.clamp(min=2).log()
    epsilon = s - 1
    # The fraction goes to 1 / ln N as s goes to 1. In logarithms nothing overflows.
    fraction = (epsilon / -torch.expm1(-epsilon * log_n)).where(epsilon != 0, 1 / log_n)
    log_k = (fraction.log() + mu * _LN2) / s.clamp(min=1e-6)  # of equally likely tokens s is 0
    k = torch.minimum(log_k, log_n).clamp(min=0.0).exp().round().to(num_tokens.dtype)
    return torch.minimum(k, num_tokens).clamp(min=1)


class _Steering:
    """mu of each row, moved by the surprise of what was drawn: mu - eta * (surprise - tau).

    mu starts at 2 tau, and does so again in all rows when the ids aren't those of the call before
    and one more a row. A token that couldn't be drawn, such as the padding of a row that has ended,
    moves nothing.
    """

    def __init__(self, *, tau: float, eta: float) -> None:
        self._tau = tau
        self._eta = eta
        self._mu: Tensor | None = None
        self.last = define.LastStep()

    def mu_after(self, input_ids: "Tensor") -> "Tensor":
        """The bits of each row, shape (B, 1), after ids of shape (B, T)."""
        drawn = self.last.drawn(input_ids)
        if drawn is None or self._mu is None:
            mu = input_ids.new_ones(len(input_ids), 1).float() * 2 * self._tau
        else:
            surprise = -drawn / _LN2
            mu = (self._mu - self._eta * (surprise - self._tau)).where(
                surprise.isfinite(), self._mu
            )
        self._mu = mu
        return mu


class MirostatWarper:
    """Mirostat 2: cuts by `mirostat_keeps`, its mu steered by what was drawn.

    mu starts at 2 tau with each new text. The surprise of the token drawn is taken after the cut,
    of probabilities that sum to 1 again, as llama.cpp and text-generation-webui take it: no
    processor that changes probabilities may come later.
    """

    def __init__(self, *, mirostat_tau: float, mirostat_eta: float) -> None:
        self._steering = _Steering(tau=mirostat_tau, eta=mirostat_eta)

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Cut logits of shape (B, V) after what `input_ids` end with."""
        logits = scores.float()
        mu = self._steering.mu_after(input_ids)
        kept = define.cut(logits, mirostat_keeps(logits.log_softmax(-1), mu))
        self._steering.last.remember(input_ids, kept.log_softmax(-1))
        return kept


class MirostatV1Warper:
    """Mirostat 1: keeps the `mirostat_top_k` likeliest, its mu steered by what was drawn.

    mu starts at 2 tau with each new text. The surprise of the token drawn is taken before the cut,
    as in the paper and its authors' code; llama.cpp takes it after.
    """

    def __init__(self, *, mirostat_tau: float, mirostat_eta: float, mirostat_m: int) -> None:
        self._steering = _Steering(tau=mirostat_tau, eta=mirostat_eta)
        self._m = mirostat_m

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Cut logits of shape (B, V) after what `input_ids` end with."""
        import torch

        logits = scores.float()
        log_probs = logits.log_softmax(-1)
        mu = self._steering.mu_after(input_ids)
        num_tokens = (logits > float("-inf")).sum(-1, keepdim=True)
        k = mirostat_top_k(zipf_exponent(log_probs, mirostat_m=self._m), mu, num_tokens=num_tokens)
        order = logits.argsort(dim=-1, descending=True, stable=True)  # (B, V)
        ranks = torch.arange(logits.shape[-1], device=logits.device).expand_as(order)
        # scatter writes at each token's id whether its rank is below k (B, 1).
        keeps = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, ranks < k)
        self._steering.last.remember(input_ids, define.cut(log_probs, keeps))
        return define.cut(logits, keeps)


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return MirostatWarper(**settings.named("mirostat_tau", "mirostat_eta"))


def _build_v1(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return MirostatV1Warper(**settings.named("mirostat_tau", "mirostat_eta", "mirostat_m"))


_SHARED = ("temperature", define.ALWAYS, "num_return_sequences")
_CONFLICTS = "beams and other cuts: mirostat's is the last and remembers what was drawn"

METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("mirostat_tau", number(gt=0), 5.0, "The surprise of a token to aim at, in bits."),
        Setting("mirostat_eta", number(gt=0, le=1), 0.1, "How fast the cut follows the surprise."),
        Setting("mirostat_m", whole(ge=2), 100, "Tokens from which the shape of the tail is "
                "estimated."),
    ),
    strategies=(
        define.Strategy(
            name="mirostat",
            description="Draws each token from those less surprising than a cut that steers the "
            "mean surprise to mirostat_tau.",
            source="Basu et al. 2021 (2007.14966); version 2 of its reference code.",
            takes=("mirostat_tau", "mirostat_eta", *_SHARED),
            draws="always",
            asked_by=("mirostat_tau", "mirostat_eta"),
            processors=(define.Processor("mirostat_tau", define.STEER, _build),),
            conflicts=_CONFLICTS,
        ),
        define.Strategy(
            name="mirostat_v1",
            description="Draws each token from the k likeliest, k steered by the estimated tail so "
            "that the mean surprise is mirostat_tau.",
            source="Basu et al. 2021 (2007.14966), algorithm 1.",
            takes=("mirostat_tau", "mirostat_eta", "mirostat_m", *_SHARED),
            draws="always",
            asked_by=("mirostat_m",),
            processors=(define.Processor("mirostat_tau", define.STEER, _build_v1),),
            conflicts=_CONFLICTS,
        ),
    ),
)  # fmt: skip
