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
from gptft.models.architectures import COMMON_BUFFERS, LinearLayers
from gptft.models.headers import Tensor, Tensors, is_computed

Part = Literal[
    "embeddings", "positions", "attention", "recurrent", "feed_forward", "experts", "residual",
    "norms", "head", "other",
]  # fmt: skip
PARTS: tuple[Part, ...] = (
    "embeddings", "positions", "attention", "recurrent", "feed_forward", "experts", "residual",
    "norms", "head", "other",
)  # fmt: skip
"""In the order that a token passes them.

Recurrent are state spaces, linear attention and short convolutions; residual is what mixes the
streams between layers (AltUp, LAuReL, hyper-connections) or adds a layer's own inputs to them;
other are mainly towers for images and sound.
"""

LORA_RANK = 16
_BY_NAME = LinearLayers()  # of an architecture that isn't known

_STREAMS = re.compile(r"altup_")  # they are numbered, too, and of no layer
_LAYER = re.compile(r"(?:^|\.)((?:\w*[a-zA-Z]\w*\.)?(\d+)\.)")
# Of these a file of any architecture keeps numbers that aren't learned.
_BUFFER = re.compile(
    r"(^|\.)(num_batches_tracked|running_(mean|var)|inv_freq|rope_freqs\.weight|(cos|sin)_cached|"
    r"act\w*\.(beta|eps))$"
)
_NORM = re.compile(r"[nN]orm|(^|_)ln(_|\d|$)|^ln")
_IN_NORM = re.compile(r"layernorm\.")  # a gated norm has layers of its own
_OTHER = re.compile(
    r"(^|\.)(vision|visual|image|audio|speech|multi_modal|mm_)\w*\.|audio_embed\.|image_embed\."
)
_HEAD = re.compile(
    r"^(lm_head|embed_out|output|output_projection|proj_out|head|predictions|project_out)\b|"
    r"^decoder\.(weight|bias)$|(^|\.)(lm_head|embed_out|output_projection|lm_loss|predictions|"
    r"pred_layer|unembed|generator_\w+)\."
)
_POSITIONS = re.compile(
    r"(^|\.)(wpe|pos(ition)?s?_(embed|emb|bias)\w*|embed_positions|relative_attention_bias)\b"
)
_EMBEDDINGS = re.compile(r"emb(e?d|$|\.)|(^|\.)(wte|tok_embeddings|w_emb?|w|project_in)\.")
_OWN_EMBEDDINGS = re.compile(r"ngram_embedding\.|(embed_tokens_per_layer)")
_RESIDUAL = re.compile(
    r"altup|laurel|hyper_connection|(^|[._])hc(_|\.|$)|_residual(_scale\.|$)|per_layer_(input|model|projection)|"
    r"(^|\.)(ple|attn_res)\.|hidden_states_(bias|scale)$|z_L_init|^\w+\.\d+\.linear\."
)
_RECURRENT = re.compile(
    r"linear_attn|mamba|mlstm|mixer|ssm|recurrent|temporal_block|(^|\.)(short_)?conv(?!_qk)|sconv"
)
# Of hybrids one word names what each layer has, be it a state space, attention or a feed-forward.
_MIXED = re.compile(r"(^|\.)(mixer|temporal_block)\.")
_MIXED_IN: dict[Part, re.Pattern[str]] = {
    "attention": re.compile(r"^[qkvo]_proj\."),
    "experts": re.compile(r"^experts\."),
    "feed_forward": re.compile(r"^(up_proj|down_proj|gate_proj|gate|shared_experts?)\."),
}
_EXPERTS = re.compile(
    r"(^|\.)(\w*_)?experts?\.(?!bias|router|e_score)|(moe|(^|\.)mlp)\.(in|out)put_linear\b"
)
_ATTENTION = re.compile(r"attn|attention|(^|\.)(q|k|v|o|qkv|query_key_value)_?proj\b")
_FEED_FORWARD = re.compile(
    r"mlp|ffn?s?(\b|_)|ffw|feed_?forward|(^|\.)fc_?(\d|in|out)|moe|router|expert|intermediate|"
    r"(^|\.)(output|linear\d|w[123])\."
)
_DENSE_IN_HEAD = re.compile(r"\.dense\.")
_LINEAR_OF_EXPERTS = {
    "mixtral": re.compile(r"\.(?P<router>gate)\.weight$|\.((?P<down>w2)|w1|w3)\.weight$"),
    "qwen2_moe": re.compile(
        r"(\.|_)(?P<router>gate)\.weight$|\.((?P<down>down_proj)|gate_proj|up_proj)\.weight$"
    ),
}
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
    tensors: Tensors,
    *,
    ties: bool,
    buffers: frozenset[str] = COMMON_BUFFERS,
    linear: LinearLayers = _BY_NAME,
    num_experts: int | None = None,
    top_k: int | None = None,
) -> Parameters:
    """Count the parameters of a model by part.

    Args:
        tensors: of its weights.
        ties: whether its config makes one table of embeddings and head.
        buffers: names that are no parameters of its architecture, see `buffer_names`.
        linear: what of its architecture is a linear layer where names don't tell.
        num_experts: that a layer has, where it has any.
        top_k: of them that a token is sent to.
    """
    kept = learned(tensors, ties=ties, buffers=buffers)
    by_part = {name: part_of(name) for name in kept}
    parts: Counter[Part] = Counter()
    for name, tensor in kept.items():
        parts[by_part[name]] += tensor.size
    has_head = any(part == "head" and one.endswith("weight") for one, part in by_part.items())
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
        lora=sum(adapted_layers(kept, linear=linear).values()),
    )


def learned(
    tensors: Tensors, *, ties: bool, buffers: frozenset[str] = COMMON_BUFFERS
) -> dict[str, Tensor]:
    """The tensors that are parameters, a tied head left out; see `count_parameters`."""
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not is_computed(name, len(tensor.shape))
        and not _BUFFER.search(name)
        and buffers.isdisjoint(".".join(name.split(".")[-words:]) for words in (1, 2))
    }
    by_part = {name: part_of(name) for name in kept}
    tables = {kept[name].shape for name, part in by_part.items() if part == "embeddings"}
    repeated = {
        name
        for name, part in by_part.items()
        if ties and part == "head" and len(kept[name].shape) == 2 and kept[name].shape in tables
    }
    return {name: tensor for name, tensor in kept.items() if name not in repeated}


def adapted_layers(tensors: Tensors, *, linear: LinearLayers = _BY_NAME) -> dict[str, int]:
    """The tensors that a LoRA on all linear layers adapts, with what it adds at rank `LORA_RANK`.

    Args:
        tensors: of a model's parameters, see `learned`.
        linear: see `count_parameters`.
    """
    sizes = {name: _lora(name, one, part_of(name), linear) for name, one in tensors.items()}
    return {name: size for name, size in sizes.items() if size}


def part_of(name: str) -> Part:
    """The part of a model that a tensor of this name belongs to.

    >>> [part_of(f"transformer.{name}.weight") for name in ("wte", "h.0.attn.c_attn", "h.0.ln_1")]
    ['embeddings', 'attention', 'norms']
    """
    if _OTHER.search(name):
        return "other"
    *modules, own = name.split(".")
    if own.isdigit() and modules:
        own = modules.pop()
    if modules and modules[-1].isdigit():
        modules.pop()
    if _NORM.search(own) or (modules and _NORM.search(modules[-1])):
        return "norms"
    found = _LAYER.search(name)
    if found is None or _HEAD.search(name):
        return _outside(name)
    return _inside(name[found.start(1) :])


def _inside(name: str) -> Part:
    """The part of a tensor in a layer, by its name from the word for layers on."""
    if _IN_NORM.search(name):
        return "norms"
    if _OWN_EMBEDDINGS.search(name):
        return "embeddings"
    if _RESIDUAL.search(name):
        return "residual"
    if _RECURRENT.search(name):
        mixed = _MIXED.search(name)
        rest = name[mixed.end() :] if mixed else ""
        return next((part for part, own in _MIXED_IN.items() if own.search(rest)), "recurrent")
    if _EXPERTS.search(name) and not re.search(r"shared_?experts?\b", name):
        return "experts"
    # The outermost module decides: `attention.output` is of the attention, `mlp.dense` isn't.
    attention, feed_forward = _ATTENTION.search(name), _FEED_FORWARD.search(name)
    if attention and (feed_forward is None or attention.start() <= feed_forward.start()):
        return "attention"
    return "feed_forward" if feed_forward else "other"


def _outside(name: str) -> Part:
    """The part of a tensor that is in no layer."""
    if _HEAD.search(name):
        return "head"
    if _RESIDUAL.search(name):
        return "residual"
    if _POSITIONS.search(name):
        return "positions"
    return "embeddings" if _EMBEDDINGS.search(name) else "other"


def _first_block(tensors: Tensors, by_part: Mapping[str, Part]) -> Counter[Part]:
    counted: Counter[Part] = Counter()
    numbers = {name: _LAYER.search(name) for name in tensors if by_part[name] != "other"}
    layers = {
        name: found for name, found in numbers.items() if found and not _STREAMS.match(found[1])
    }
    first = min((int(found[2]) for found in layers.values()), default=0)
    for name, found in layers.items():
        if int(found[2]) == first:
            counted[by_part[name]] += tensors[name].size
    return counted


def _lora(name: str, tensor: Tensor, part: Part, linear: LinearLayers) -> int:
    """Two matrices beside each linear layer, (rank, in) and (out, rank), as peft's all-linear does.

    Of experts, which are one tensor in memory, it adapts those that files have one by one, and then
    leaves out the linear layers of the same names beside them, a dense feed-forward for one. It
    never adapts the table of the head. Source: Hu et al. 2021, "LoRA", section 4.1; peft 0.21,
    utils/transformers_weight_conversion.py.
    """
    if len(tensor.shape) < 2 or not name.endswith(("weight", "_proj")):
        return 0
    if linear.experts is not None:
        own = _LINEAR_OF_EXPERTS[linear.experts].search(name)
        if own and own["router"]:
            return LORA_RANK * sum(tensor.shape)
        if own and part != "experts":
            return 0
        if own:  # the gate and the first layer are one tensor, of which each half has both ranks
            rows, columns = tensor.shape[-2:]
            return LORA_RANK * (columns + (1 if own["down"] else 2) * rows)
    is_router = _ROUTER.search(name) is not None and linear.names.isdisjoint(name.split(".")[-2:])
    is_linear = len(tensor.shape) == 2 and name.endswith("weight") and not is_router
    if part in ("attention", "feed_forward", "recurrent", "residual"):
        return LORA_RANK * sum(tensor.shape) if is_linear else 0
    # The layers before the table of a head, and those of towers, have no name but of what they do.
    is_adapted = bool(_DENSE_IN_HEAD.search(name)) if part == "head" else part == "other"
    return LORA_RANK * sum(tensor.shape) if is_linear and is_adapted and "emb" not in name else 0
