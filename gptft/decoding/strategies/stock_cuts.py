"""The cuts that transformers has: top-k, nucleus, min-p, top-h, typical, epsilon, eta.

Top-k and top-h are ours, as their papers have them.
"""

from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number, whole
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor

_CUT, _stock = define.CUT, define.stock_processors
_HEWITT = "Hewitt, Manning and Liang 2022 (2210.15191), section 4."


def keep_likeliest(number: int) -> define.Process:
    """A processor that keeps that many of the likeliest tokens.

    It drops those that are only as likely as the last of them, of which there are many in bfloat16;
    transformers (5.23) keeps these, too.

    Source: Fan et al. 2018 (1805.04833).
    """
    return define.cut_by(lambda logits: logits.isposinf(), min_tokens_to_keep=number)


def top_h_keeps(logits: "Tensor", *, top_h: float) -> "Tensor":
    """The most of the likeliest tokens whose entropy is at most `top_h` times that of all.

    Their entropy is that of the distribution drawn from, in which their probabilities sum to 1. It
    grows with each token, and that of the likeliest alone is 0. transformers (5.23) neither lets
    them sum to 1 nor looks beyond the 100 likeliest.

    Args:
        logits: shape (B, V).
        top_h: above 0; 1 keeps all.

    Returns:
        shape (B, V), bool.

    Source: Potraghloo et al. 2025 (2509.02510), algorithm 1.

    >>> import torch
    >>> logits = torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]).log()  # 1.75 bits
    >>> top_h_keeps(logits, top_h=0.55).tolist()  # of 2/3 and 1/3: 0.918 bits, at most 0.9625
    [[True, True, False, False]]
    """
    import torch

    probs, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    mass = probs.cumsum(-1)
    # With q = p / mass: -sum(q * log q) = -sum(p * log p) / mass + log(mass).
    entropy = torch.special.entr(probs).cumsum(-1) / mass + mass.log()
    keeps = entropy <= top_h * entropy[:, -1:]
    return torch.zeros_like(keeps).scatter(-1, order, keeps)


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("top_k", whole(ge=0), 0, "Draw from the k likeliest tokens; 0 from all."),
        Setting("top_p", number(gt=0, le=1), 1.0,
                "Draw from the likeliest tokens that reach this probability; 1 is off."),
        Setting("min_p", number(ge=0, le=1), 0.0,
                "Draw from tokens at least this share as likely as the likeliest; 0 is off."),
        Setting("top_h", number(gt=0, le=1), 1.0, "Draw from the likeliest tokens whose entropy "
                "stays below this share of the whole; 1 is off."),
        Setting("typical_p", number(gt=0, le=1), 1.0, "Draw from the tokens of the most expected "
                "surprise that reach this probability; 1 is off.", aliases=("typical",)),
        Setting("epsilon_cutoff", number(ge=0, lt=1), 0.0,
                "Draw from tokens at least this likely; 0 is off."),
        Setting("eta_cutoff", number(ge=0, lt=1), 0.0,
                "As epsilon_cutoff, lower where the model is unsure; 0 is off."),
    ),
    processors=(
        define.Processor("top_h", _CUT + 20, lambda s, b: define.cut_by(
            top_h_keeps, top_h=s["top_h"], min_tokens_to_keep=b.min_kept(s))),
        define.Processor("top_k", _CUT + 30, lambda s, b: (
            keep_likeliest(max(s["top_k"], b.min_kept(s))))),
        define.Processor("top_p", _CUT + 60, lambda s, b: _stock().TopPLogitsWarper(
            s["top_p"], min_tokens_to_keep=b.min_kept(s))),
        define.Processor("min_p", _CUT + 70, lambda s, b: _stock().MinPLogitsWarper(
            s["min_p"], min_tokens_to_keep=b.min_kept(s))),
        define.Processor("typical_p", _CUT + 80, lambda s, b: _stock().TypicalLogitsWarper(
            s["typical_p"], min_tokens_to_keep=b.min_kept(s))),
        define.Processor("epsilon_cutoff", _CUT + 85, lambda s, b: _stock().EpsilonLogitsWarper(
            s["epsilon_cutoff"], min_tokens_to_keep=b.min_kept(s))),
        define.Processor("eta_cutoff", _CUT + 86, lambda s, b: _stock().EtaLogitsWarper(
            s["eta_cutoff"], min_tokens_to_keep=b.min_kept(s), device=b.device)),
    ),
    strategies=(
        define.sampling("top_k", "Draws each token from the k likeliest.",
                        "Fan et al. 2018 (1805.04833).", top_k=50),
        define.sampling("nucleus", "Draws each token from the fewest likeliest ones that together "
                        "reach the probability top_p.",
                        "Holtzman et al. 2020 (1904.09751), section 3.1.", top_p=0.9),
        define.sampling("min_p", "Draws each token from those at least min_p times as likely as "
                        "the likeliest.", "Nguyen et al. 2024 (2407.01082).", min_p=0.1),
        define.sampling("top_h", "Draws each token from the likeliest ones whose entropy stays "
                        "below a share of the whole distribution's.",
                        "Potraghloo et al. 2025 (2509.02510), algorithm 1.", top_h=0.4),
        define.sampling("typical", "Draws each token from those whose surprise is nearest to the "
                        "expected one.", "Meister et al. 2022 (2202.00666).", typical_p=0.9),
        define.sampling("epsilon", "Draws each token from those at least epsilon_cutoff likely.",
                        _HEWITT, epsilon_cutoff=9e-4),
        define.sampling("eta", "Draws each token from those likelier than a cut that falls where "
                        "the model is unsure.", _HEWITT, eta_cutoff=3e-4),
    ),
)  # fmt: skip
