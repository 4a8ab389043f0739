"""A built model -> its parameters by part, by the classes of its modules.

`gptft info`, which knows nothing but the names and shapes in a file, is held to it. Where a layer's
class owns a weight itself, the weight's name decides.
"""

import re
from collections import Counter

from transformers import PreTrainedModel

_TOWER = re.compile(
    r"Vision|Visual|Image|Audio|Speech|MultiModalProjector|MultimodalProjector|GitProjection"
)
_NORM = re.compile(r"(?<!Attention)Norm(Gated|1P)?$")
_HEAD = re.compile(r"(LM|Prediction|OnlyMLM)Head$|Predictions$")
_RESIDUAL = re.compile(
    r"Hyper(Connection|Head)|AltUp|Laurel|GatedResidual|AttentionResidual|PLELayer|ResidualScal"
)
_RECURRENT = re.compile(
    r"(Mamba|DeltaNet|xLSTMLayer|ShortConv|RecurrentBlock|RgLru|KimiDelta|Mixer$)"
    r"(?!\w*(DecoderLayer|HybridLayer|Model)$)(?!Block$)"
)
_ATTENTION = re.compile(r"Attention(?!\w*(Layer|Model|Residual)$)|MLA$|SelfOutput$")
_EXPERTS = re.compile(r"(?<!Shared)Experts$|MoeSharedExperts$")
_FEED_FORWARD = re.compile(
    r"MLP|Mlp|FFN|FeedForward|MoE|Moe|Router|Gating|Intermediate|Output$|Experts|DenseGated"
)
# Linear layers that a class of layers or models has itself.
_OWN: dict[str, re.Pattern[str]] = {
    "other": re.compile(r"vision"),
    "head": re.compile(r"lm_head"),
    "feed_forward": re.compile(r"\.(fc_?(\d|in|out)|ffn)\."),
    "residual": re.compile(r"altup|per_layer|\.linear\."),
    "embeddings": re.compile(r"emb"),
}


def parts_by_class(model: PreTrainedModel) -> Counter[str]:
    """The parameters of each part, as `gptft.models.parameters` calls them."""
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    found: Counter[str] = Counter()
    for name, weight in model.named_parameters():
        words = name.split(".")
        owners = [".".join(words[:n]) for n in range(len(words) - 1, 0, -1)]
        chain = [classes[one] for one in owners if one in classes]
        module = model.get_submodule(owners[0])
        role = "embeddings" if module is table else "head" if module is head else ""
        if table is not None and weight is table.weight:
            role = "embeddings"  # also where it comes under the head's name
        found[part_by_class(chain, name, role=role)] += weight.numel()
    return +found


def part_by_class(chain: list[str], name: str, *, role: str) -> str:
    """The part that a weight is of.

    Args:
        chain: the class of its module, and of those around it but the outermost.
        name: its own.
        role: embeddings or head, where the model says so itself.
    """
    inner = [one for one in chain if not one.endswith(("ForCausalLM", "LMHeadModel"))]
    if _has(inner, _TOWER):
        return "other"
    if _has(inner, _NORM):
        return "norms"
    if role:
        return role
    return _inside(inner, name)


def _inside(chain: list[str], name: str) -> str:
    own = chain[0] if chain else ""
    if _has(chain, _HEAD):
        return "head"
    if _has(chain, _ATTENTION) and not _has(chain, _RECURRENT):
        is_expert = any(one.endswith("ParallelExperts") for one in chain)
        return "experts" if is_expert else "attention"
    if "Embedding" in own:
        return "positions" if re.search(r"pos|wpe", name) or "Position" in own else "embeddings"
    if any(one.endswith("Embeddings") for one in chain):
        return "embeddings"
    if _has(chain, _RESIDUAL):
        return "residual"
    if _has(chain, _RECURRENT):
        return "recurrent"
    if _has(chain, _EXPERTS):
        return "experts"
    if _has(chain, _FEED_FORWARD):
        return "feed_forward"
    by_name = (part for part, words in _OWN.items() if words.search(name))
    named = next(by_name, "residual" if own.endswith("Layer") else "other")
    return "residual" if own.endswith("Model") and named == "other" else named


def _has(chain: list[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.search(one) for one in chain)
