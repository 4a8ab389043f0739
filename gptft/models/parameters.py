"""Names and shapes of a model's tensors -> how many parameters each of its parts has.

What a tensor belongs to is told by its name, which architectures spell in a few dozen ways, in
files as in memory. Tied weights count once, and buffers not at all, as `model.parameters()` has it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gptft.files import JsonFields
from gptft.models.headers import Tensor, Tensors, is_computed

Part = Literal[
    "embeddings", "positions", "attention", "recurrent", "feed_forward", "experts", "norms",
    "head", "other",
]  # fmt: skip
PARTS: tuple[Part, ...] = (
    "embeddings", "positions", "attention", "recurrent", "feed_forward", "experts", "norms",
    "head", "other",
)  # fmt: skip
"""In the order that a token passes them; recurrent are state spaces and linear attention."""

LORA_RANK = 16

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
# Of these a file keeps numbers that aren't learned: routers' load balances, statistics.
_BUFFER = re.compile(
    r"(^|\.)(e_score_correction_bias|expert_bias|num_batches_tracked|running_(mean|var)|inv_freq|"
    r"rope_freqs\.weight|embed_scale|scalar_cells|layer_scalar|slope_rate|(query|key|diagonal)_decay|"
    r"(cos|sin)_cached)$"
)
_NORM = re.compile(r"norm|(^|_)ln(_|\d|$)|^ln")
_OTHER = re.compile(r"(^|\.)(vision|visual|image|audio|speech|multi_modal|mm_)\w*\.")
_HEAD = re.compile(r"^(lm_head|embed_out|output|output_projection|proj_out|head|predictions)\b|"
                   r"\.(lm_head|embed_out|output_projection|lm_loss|predictions)\.")  # fmt: skip
_POSITIONS = re.compile(r"(^|\.)(wpe|pos(ition)?s?_(embed|emb)\w*|embed_positions)\b")
_EMBEDDINGS = re.compile(r"embe?d|(^|\.)(wte|tok_embeddings|w_emb?|w)\.")
_RECURRENT = re.compile(
    r"linear_attn|mamba|mlstm|mixer|ssm|recurrent|temporal_block|(^|\.)(short_)?conv"
)
_EXPERTS = re.compile(r"(^|\.)(\w*_)?experts?\.|moe\.(in|out)put_linear\b")
_ATTENTION = re.compile(r"attn|attention|(^|\.)(q|k|v|o|qkv|query_key_value)_?proj\b")
_FEED_FORWARD = re.compile(
    r"mlp|ffn?(\b|_)|ffw|feed_?forward|(^|\.)fc_?(\d|in|out)|moe|router|expert|intermediate|"
    r"(^|\.)(output|linear\d|w[123])\."
)
_ROUTER = re.compile(r"router|(^|\.)gate\.")


@dataclass(frozen=True)
class Parameters(JsonFields):
    """How many numbers a model has learned, and where.

    Attributes:
        total: all of them, tied ones once: `sum(p.numel() for p in model.parameters())`.
        parts: by part, the parts that there are; their sum is `total`.
        block: those of the first layer, by part.
        tied: whether the head is the table of embeddings; None where no head was found and the
            config doesn't tie it.
        active: those that a token meets: all but the experts it isn't sent to.
        multiplied: those of `active` in matrices that a token is multiplied with, the head
            included, tied or not, tables that are only looked up in left out.
        lora: what a LoRA of rank `LORA_RANK` on all linear layers of the blocks would add.
    """

    total: int
    parts: Mapping[Part, int]
    block: Mapping[Part, int]
    tied: bool | None
    active: int
    multiplied: int
    lora: int


def count_parameters(
    tensors: Tensors, *, ties: bool, num_experts: int | None = None, top_k: int | None = None
) -> Parameters:
    """Count the parameters of a model by part.

    Args:
        tensors: of its weights.
        ties: whether its config makes one table of embeddings and head.
        num_experts: that a layer has, where it has any.
        top_k: of them that a token is sent to.
    """
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not is_computed(name, len(tensor.shape)) and not _BUFFER.search(name)
    }
    by_part = {name: part_of(name) for name in kept}
    heads = [name for name, part in by_part.items() if part == "head"]
    tables = {kept[name].shape for name, part in by_part.items() if part == "embeddings"}
    repeated = {name for name in heads if ties and kept[name].shape in tables}
    kept = {name: tensor for name, tensor in kept.items() if name not in repeated}
    parts: Counter[Part] = Counter()
    for name, tensor in kept.items():
        parts[by_part[name]] += tensor.size
    has_head = any(name not in repeated for name in heads if name.endswith("weight"))
    tied = False if has_head else (True if ties else None)
    block = _first_block(kept, by_part)
    unused = 0
    if num_experts and top_k and top_k < num_experts:
        unused = parts["experts"] * (num_experts - top_k) // num_experts
    total = sum(parts.values())
    looked_up = parts["positions"] + (0 if tied else parts["embeddings"])
    return Parameters(
        total=total,
        parts={part: parts[part] for part in PARTS if parts[part]},
        block={part: block[part] for part in PARTS if block[part]},
        tied=tied,
        active=total - unused,
        multiplied=total - unused - looked_up,
        lora=sum(_lora(name, tensor, by_part[name]) for name, tensor in kept.items()),
    )


def part_of(name: str) -> Part:
    """The part of a model that a tensor of this name belongs to.

    >>> [part_of(f"transformer.{name}.weight") for name in ("wte", "h.0.attn.c_attn", "h.0.ln_1")]
    ['embeddings', 'attention', 'norms']
    """
    if _OTHER.search(name):
        return "other"
    *modules, own = name.split(".")
    if _NORM.search(modules[-1] if own in ("weight", "bias") and modules else own):
        return "norms"
    found = _LAYER.search(name)
    if found is None or _HEAD.search(name):
        return _outside(name)
    inside = name[found.end() :]
    if _RECURRENT.search(inside):
        return "recurrent"
    if _EXPERTS.search(inside) and not re.search(r"shared_?experts?\b", inside):
        return "experts"
    # The outermost module decides: `attention.output` is of the attention, `mlp.dense` isn't.
    at = {
        "attention": _ATTENTION.search(inside),
        "feed_forward": _FEED_FORWARD.search(inside),
    }
    if at["attention"] and (
        at["feed_forward"] is None or at["attention"].start() <= at["feed_forward"].start()
    ):
        return "attention"
    return "feed_forward" if at["feed_forward"] else "other"


def _outside(name: str) -> Part:
    """The part of a tensor that is in no layer."""
    if _HEAD.search(name):
        return "head"
    if _POSITIONS.search(name):
        return "positions"
    return "embeddings" if _EMBEDDINGS.search(name) else "other"


def _first_block(tensors: Tensors, by_part: Mapping[str, Part]) -> Counter[Part]:
    counted: Counter[Part] = Counter()
    numbers = {name: _LAYER.search(name) for name in tensors if by_part[name] != "other"}
    first = min((int(found[1]) for found in numbers.values() if found), default=0)
    for name, found in numbers.items():
        if found and int(found[1]) == first:
            counted[by_part[name]] += tensors[name].size
    return counted


def _lora(name: str, tensor: Tensor, part: Part) -> int:
    """Two matrices beside each linear layer, (rank, in) and (out, rank).

    Experts are one tensor in memory, which peft's all-linear doesn't adapt, and nor does it the
    head. Source: Hu et al. 2021, "LoRA", section 4.1.
    """
    is_linear = part in ("attention", "feed_forward", "recurrent") and len(tensor.shape) == 2
    if not is_linear or not name.endswith("weight") or _ROUTER.search(name):
        return 0
    return LORA_RANK * sum(tensor.shape)
