"""A config.json and the headers of its weights -> sizes that no model of these weights can have.

A model is built as its config says before its weights are read, which for a billion layers takes
hours and all of the memory. Only sizes that are out of all proportion are looked at here: what is
wrong by less is said when the weights are loaded.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptft.errors import ModelError
from gptft.models.architectures import find_architecture
from gptft.models.headers import all_safetensors, read_headers
from gptft.models.model_files import ModelFiles, require_dtype
from gptft.terminal.words import count

_POSITIVE = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
_MANY_LAYERS = 512  # the deepest models have some 130
_LARGE = 1_000_000  # the largest size in use, of a vocabulary, is a quarter of it
_SLACK = 16  # times that packed weights are smaller than what they stand for, at most
# Sides of weights, under the names that architectures have for them; of other numbers nothing is
# known (Qwen4's ngram_vocab_size_base is 20,000,000, and no side is).
_IS_SIZE = re.compile(
    r"((moe_|shared_expert_|expert_|word_|embedding_|ffn_)?(hidden|intermediate|embedding|vocab|ffn)"
    r"_size|([a-z]+_)?vocab_size|n_embd|n_inner|d_model|d_ff|(ffn_|head_|hidden_|embed_|emb_)?dim"
    r"|n_heads?|num_heads|num_(attention|key_value|local)_heads"
    r"|(num|n)_(local_|routed_|shared_)?experts|head_dim)"
)
_LAYER = re.compile(r"\.(\d+)\.")

Header = Mapping[str, tuple[int, ...]]


def require_sizes(files: ModelFiles, *, weights: Path | None = None) -> None:
    """Refuse a config.json whose sizes its weights can't have, before anything is built of it.

    Args:
        files: the model's.
        weights: a folder with its safetensors, where that isn't its own.

    Raises:
        ModelError: as said, with both numbers.
    """
    require_dtype(files)
    text = files.config.get("text_config")
    for config in (files.config, text if isinstance(text, dict) else {}):
        problem = next(_problems(config, weights or files.folder), None)
        if problem is not None:
            raise ModelError(
                f"{files.folder}: its config.json says {problem}. It is another model's, or "
                "damaged: take the one that came with the weights."
            )


def _problems(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    names = _names(config)
    for name in _POSITIVE:
        value = config.get(names[name])
        if isinstance(value, int) and value < 1:
            yield f"{names[name]} {_shown(value)}, and there is no model with less than 1"
    depth, large = config.get(names["num_hidden_layers"]), _large(config, names)
    if not large and not (isinstance(depth, int) and depth > _MANY_LAYERS):
        return
    tensors, _ = read_headers(all_safetensors(folder))  # of others loading says what is wrong
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if not shapes:
        return
    if isinstance(depth, int) and depth > _MANY_LAYERS and depth > (layers := _layers(shapes)):
        said = f"{names['num_hidden_layers']} {_shown(depth)}"
        yield f"{said}, and its weights have {count(layers, 'layer')}"
    widest = max((side for shape in shapes.values() for side in shape), default=0)
    for name, value in large.items():
        if value > _SLACK * widest:
            yield f"{name} {_shown(value)}, and no side of its weights is longer than {widest:,}"


def has_usual_sizes(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config can be built in seconds where no weights are there to ask."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        names = _names(part)
        sizes = [part.get(names[name], 1) for name in _POSITIVE]
        if any(not isinstance(size, int) or size < 1 for size in sizes):
            return False
        if part.get(names["num_hidden_layers"], 1) > _MANY_LAYERS or _large(part, names):
            return False
    return True


def _large(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, int]:
    return {
        name: value
        for name, value in config.items()
        if isinstance(value, int) and value > _LARGE and name != names["num_hidden_layers"]
        and _IS_SIZE.fullmatch(name)
    }  # fmt: skip


def _names(config: Mapping[str, Any]) -> dict[str, str]:
    """Under which name the config has each of the sizes that all models have."""
    try:
        architecture = find_architecture(str(config.get("model_type")))
    except LookupError:
        architecture = None
    aliases = {} if architecture is None else architecture.aliases
    return {name: name if name in config else aliases.get(name, name) for name in _POSITIVE}


def _shown(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**18 else f"{len(str(abs(value)))} digits long"


def _layers(shapes: Header) -> int:
    """How many layers the names of weights count, as in `transformer.h.11.attn.c_attn.weight`."""
    found = (_LAYER.search(name) for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)
