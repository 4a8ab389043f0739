"""A config.json and the names of tensors -> what a model is made of: layers, heads, positions.

What can't be told is None and isn't guessed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gptft.config.numbers import as_whole
from gptft.files import JsonFields
from gptft.models.architectures import can_tie, find_architecture, turns_heads
from gptft.models.headers import Tensors
from gptft.models.model_files import context_length
from gptft.models.parameters import part_of

_TOO_LARGE = 2**40  # for a size; 10**30 in a tokenizer_config.json means no limit

Positions = Literal["learned", "rotary", "alibi", "sinusoidal", "relative", "none"]
AttentionKind = Literal["MHA", "GQA", "MQA", "MLA"]

# Names of one thing in configs of which no class declares them otherwise.
_NAMES = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "top_k": ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts"),
    "activation": ("hidden_act", "activation_function", "hidden_activation", "activation", "afn"),
    "window": ("sliding_window", "attention_window_size", "window_size"),
}  # fmt: skip
_ROTARY = frozenset({"gptj", "gpt_neox", "codegen", "chatglm"})
_SINUSOIDAL = frozenset({"ctrl", "xglm", "xlm", "transfo-xl"})
_RELATIVE = frozenset({"xlnet", "t5", "bigbird_pegasus"})
_NO_POSITIONS = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm", "jamba"})
# Of these the feed-forward reads what attention reads, not what it writes.
_PARALLEL = frozenset({"gptj", "codegen", "phi", "cohere", "cohere2"})
_FOUR_TIMES = frozenset(
    {"gpt2", "gptj", "openai-gpt", "gpt_neo", "bloom", "codegen", "gpt_bigcode", "falcon"}
)
"""Of these the feed-forward is four times as wide as the model, unless the config says more."""


@dataclass(frozen=True)
class Anatomy(JsonFields):
    """What a model's config says of its build; None where it doesn't.

    Attributes:
        model_type: the architecture, as transformers names it.
        layers: how many blocks there are.
        width: numbers that stand for a token between blocks.
        heads: of attention.
        kv_heads: heads of keys and values; fewer where several of attention share one.
        head_dim: numbers of a head.
        attention: MHA, each head with keys and values of its own; MQA, one for all; GQA, one for a
            group; MLA, keys and values computed of a compressed vector.
        window: tokens that sliding-window layers look back.
        layer_kinds: how many layers there are of each kind, where the config lists them.
        positions: how the model knows the order of tokens.
        inner: width within the feed-forward, of one expert where there are some.
        gated: whether the feed-forward multiplies by a gate (SwiGLU, GeGLU).
        activation: of the feed-forward.
        norm: LayerNorm or RMSNorm.
        parallel: whether attention and feed-forward read the same input.
        num_experts: of a layer.
        top_k: experts a token is sent to.
        context: the most tokens it sees at once.
        vocab_size: ids it has embeddings for.
        ties: whether its config makes one table of embeddings and head.
    """

    model_type: str | None
    layers: int | None
    width: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    attention: AttentionKind | None
    window: int | None
    layer_kinds: Mapping[str, int]
    positions: Positions | None
    inner: int | None
    gated: bool
    activation: str | None
    norm: str | None
    parallel: bool
    num_experts: int | None
    top_k: int | None
    context: int | None
    vocab_size: int | None
    ties: bool


class _Config:
    """A config.json, asked by any of a field's names; what it leaves out is its class's default."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        text = stored.get("text_config")
        self.stored = {**stored, **text} if isinstance(text, dict) else dict(stored)
        kind = self.stored.get("model_type")
        self.model_type = kind if isinstance(kind, str) else None
        try:
            self.architecture = find_architecture(self.model_type or "")
        except LookupError:
            self.architecture = None

    def value(self, name: str) -> Any:
        for one in _NAMES.get(name, (name,)):
            if self.stored.get(one) is not None:
                return self.stored[one]
        if self.architecture is None:
            return None
        for one in _NAMES.get(name, (name,)):
            if one in self.architecture.names and one not in self.stored:
                found = self.architecture.value(self.stored, one)
                if found is not None:
                    return found
        return None

    def size(self, name: str) -> int | None:
        value = as_whole(self.value(name))
        is_size = isinstance(value, int) and not isinstance(value, bool)
        return value if is_size and 0 < value < _TOO_LARGE else None

    def text(self, name: str) -> str | None:
        value = self.value(name)
        return value if isinstance(value, str) and value else None


def read_anatomy(stored: Mapping[str, Any], tensors: Tensors) -> Anatomy:
    """What a model is made of.

    Args:
        stored: its config.json.
        tensors: of its weights, which tell what the config leaves to the code; may be empty.
    """
    config = _Config(stored)
    width, heads = config.size("hidden_size"), config.size("num_attention_heads")
    if not any(part_of(name) == "attention" for name in tensors) and tensors:
        heads = None  # of a state space they are no attention's
    kv_heads = _kv_heads(config, heads)
    inner = config.size("moe_intermediate_size") or config.size("intermediate_size")
    if inner is None and width and config.model_type in _FOUR_TIMES:
        inner = 4 * width
    return Anatomy(
        model_type=config.model_type,
        layers=config.size("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(config, width, heads),
        attention=_attention(config, heads, kv_heads),
        window=_window(config),
        layer_kinds=_layer_kinds(config),
        positions=_positions(config, tensors),
        inner=inner,
        gated=any(_is_gate(name) for name in tensors),
        activation=config.text("activation"),
        norm=_norm(config),
        parallel=_is_parallel(config),
        num_experts=config.size("num_experts"),
        top_k=config.size("top_k"),
        context=_context(config),
        vocab_size=config.size("vocab_size"),
        ties=_ties(config, tensors),
    )


def _context(config: _Config) -> int | None:
    length = None if config.model_type in _NO_POSITIONS else context_length(config.stored)
    return length if length is not None and length < _TOO_LARGE else None


def _ties(config: _Config, tensors: Tensors) -> bool:
    said = config.value("tie_word_embeddings")
    if isinstance(said, bool):
        return said and (config.model_type is None or can_tie(config.model_type))
    return not any(part_of(name) == "head" for name in tensors)


def _kv_heads(config: _Config, heads: int | None) -> int | None:
    if heads is None:
        return None
    if config.model_type == "falcon" and config.value("new_decoder_architecture") is not True:
        return 1 if config.value("multi_query") is not False else heads
    if config.model_type == "gpt_bigcode":
        return 1 if config.value("multi_query") is not False else heads
    return config.size("num_key_value_heads") or heads


def _attention(config: _Config, heads: int | None, kv_heads: int | None) -> AttentionKind | None:
    if heads is None or kv_heads is None:
        return None
    if config.size("kv_lora_rank"):
        return "MLA"
    if kv_heads == heads:
        return "MHA"
    return "MQA" if kv_heads == 1 else "GQA"


def _head_dim(config: _Config, width: int | None, heads: int | None) -> int | None:
    if heads is None or config.size("kv_lora_rank"):
        return None
    if own := config.size("head_dim"):
        return own
    return width // heads if width and width % heads == 0 else None


def _window(config: _Config) -> int | None:
    if config.value("use_sliding_window") is False:
        return None
    kinds = _layer_kinds(config)
    if kinds and not any(word in kind for kind in kinds for word in ("sliding", "local")):
        return None
    return config.size("window")


def _layer_kinds(config: _Config) -> dict[str, int]:
    kinds = config.value("layer_types") or config.value("layers_block_type")
    if config.model_type == "gpt_neo" and isinstance(config.value("attention_layers"), list):
        kinds = config.value("attention_layers")
    is_list = isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)
    return dict(Counter(kinds)) if is_list else {}


def _positions(config: _Config, tensors: Tensors) -> Positions | None:
    kind = config.model_type
    if kind in _NO_POSITIONS:
        return "none"
    if kind in ("bloom", "mpt") or config.value("alibi") is True:
        return "alibi"
    if kind in _SINUSOIDAL:
        return "sinusoidal"
    if kind in _RELATIVE:
        return "relative"
    if any(part_of(name) == "positions" for name in tensors):
        return "learned"
    rope = ("rope_theta", "rope_parameters", "rope_scaling", "rotary_dim", "rotary_pct")
    if kind in _ROTARY or any(config.stored.get(name) is not None for name in rope):
        return "rotary"
    return "rotary" if kind is not None and turns_heads(kind) else None


def _is_gate(name: str) -> bool:
    if part_of(name) not in ("feed_forward", "experts"):
        return False
    words = ("gate_proj", "gate_up_proj", ".w3", "input_linear", "ffn_gate")
    return any(word in name for word in words)


def _norm(config: _Config) -> str | None:
    if config.value("rms_norm_eps") is not None or config.value("rms_norm") is True:
        return "RMSNorm"
    names = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon")
    if config.model_type in ("mamba", "mamba2", "falcon_mamba"):
        return "RMSNorm"
    is_layer_norm = config.model_type in ("opt", "xglm") or any(
        config.value(n) is not None for n in names
    )
    return "LayerNorm" if is_layer_norm else None


def _is_parallel(config: _Config) -> bool:
    if config.model_type == "falcon":
        return config.value("parallel_attn") is not False
    if config.model_type == "gpt_neox":
        return config.value("use_parallel_residual") is not False
    return config.model_type in _PARALLEL
