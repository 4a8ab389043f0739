"""Exclude top choices: now and then all likely tokens but the least likely of them go."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from gptft.config.settings import Setting, number
from gptft.decoding import define

if TYPE_CHECKING:
    from torch import Tensor


def xtc_removes(logits: "Tensor", *, xtc_threshold: float) -> "Tensor":
    """Which tokens have the threshold's probability or more, all but the least likely of them.

    Args:
        logits: shape (B, V).
        xtc_threshold: above 0; above 0.5 there can't be two such tokens, and so none is removed.

    Returns:
        shape (B, V), bool. Of equally likely ones the first counts as the least likely.

    Source: no paper; p-e-w 2024, Exclude Top Choices (text-generation-webui 6335).

    >>> import torch
    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> xtc_removes(logits, xtc_threshold=0.1).tolist()
    [[True, True, False, False]]
    """
    above = logits.softmax(-1) >= xtc_threshold
    least = logits.where(above, float("inf")).argmin(-1, keepdim=True)
    return above.scatter(-1, least, False)


def exclude_top_choices(
    *,
    xtc_probability: float,
    xtc_threshold: float,
    keep_ids: Collection[int] = (),
    min_tokens_to_keep: int = 1,
    num_prompts: int = 1,
) -> define.Process:
    """A processor that removes tokens by `xtc_removes`, in a row with the probability given.

    Each call draws one number a row of a prompt from torch's global generator, needed or not; all
    prompts take the same, as each would alone. A row that would
    lose one of `keep_ids` stays as it is (text-generation-webui's rule, there for line end and EOS:
    without it texts and lines hardly end), and so does one that would keep fewer tokens than
    `min_tokens_to_keep`.
    """
    from gptft.decoding.draws import uniform

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        drawn = uniform(logits, num_prompts=num_prompts) < xtc_probability
        removes = xtc_removes(logits, xtc_threshold=xtc_threshold)
        kept = [i for i in sorted(keep_ids) if i < logits.shape[-1]]
        left = ((logits > float("-inf")) & ~removes).sum(-1, keepdim=True)
        spared = removes[:, kept].any(-1, True) | (left < min_tokens_to_keep)
        return logits.masked_fill(removes & drawn & ~spared, float("-inf"))

    return process


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return exclude_top_choices(
        **settings.named("xtc_probability", "xtc_threshold"),
        keep_ids={*batch.eos, *batch.encode("\n")},
        min_tokens_to_keep=batch.min_kept(settings),
        num_prompts=len(batch.input_ids),
    )


METHOD = define.Method(
    group="sampling",
    settings=(
        Setting("xtc_probability", number(ge=0, le=1), 0.0, "How often the likeliest tokens but "
                "one are removed.", aliases=("xtc_prob",)),
        Setting("xtc_threshold", number(gt=0, le=1), 0.1, "From this probability on a token is "
                "removed.", hint="Above 0.5 it does nothing."),
    ),
    processors=(
        define.Processor(
            "xtc_probability", define.CUT + 90, _build, ("xtc_threshold",), draws=True
        ),
    ),
    strategies=(
        define.sampling(
            "xtc",
            "Draws each token after removing, now and then, all likely ones but the least likely "
            "of them.",
            "No paper: p-e-w 2024, Exclude Top Choices (text-generation-webui 6335).",
            xtc_probability=0.5,
            xtc_threshold=0.1,
            min_p=0.02,
        ),
    ),
)  # fmt: skip
