"""The fields of a model's config -> whether its tokens see those that come after them.

Most architectures that transformers has a causal language model of are causal whatever their config
says; these are not (5.23). `make architectures` tries all; `models/causal_probe.py` asks the model.
"""

import json
from collections.abc import Mapping
from typing import Any

from gptft.errors import ModelError

_DECODER = {"is_decoder": True}
# The values that fields must have for the model to be causal.
_NEEDED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie",
            "megatron-bert", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
            "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
        ),
        _DECODER,
    ),
    "big_bird": {**_DECODER, "attention_type": "original_full"},  # its sparse one never is
    "xlm": {"causal": True},
    "xlnet": {"attn_type": "uni"},
}  # fmt: skip
# The value of use_bidirectional_attention that makes these see ahead.
_BIDIRECTIONAL: dict[str, Any] = {
    "gemma": True,
    "gemma3_text": True,
    "gemma4_text": "all",
    "gemma4_unified_text": "all",
}
_NEVER = ("cpmant",)  # a prompt sees all of itself, and a text is nothing but a prompt


def make_causal(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What to change in a config for its model to be causal.

    Args:
        config: fields by their own names; `model_type` among them.

    Returns:
        fields with values; empty where none would help, None where it is causal.

    >>> make_causal({"model_type": "bert"}), make_causal({"model_type": "gpt2"})
    ({'is_decoder': True}, None)
    """
    model_type, bidirectional = config["model_type"], "use_bidirectional_attention"
    if model_type in _NEVER:
        return {}
    needed = {
        name: value
        for name, value in _NEEDED.get(model_type, {}).items()
        if config.get(name) != value
    }
    if config.get(bidirectional) and config[bidirectional] == _BIDIRECTIONAL.get(model_type):
        needed[bidirectional] = None
    return needed or None


def require_causal(config: Mapping[str, Any], *, name: str, section: str) -> None:
    """Refuse a model whose config says that its tokens see those that come after them.

    Args:
        config: its fields.
        name: what a message calls the model.
        section: where fields of its config can be changed.

    Raises:
        ModelError: it does.
    """
    if (changes := make_causal(config)) is not None:
        raise ModelError(not_causal(name, config["model_type"], changes, section=section))


def not_causal(name: str, model_type: str, changes: Mapping[str, Any], *, section: str) -> str:
    """What to say of a model that sees the tokens it is to predict."""
    fields = ", ".join(f"{field}: {json.dumps(value)}" for field, value in changes.items())
    way = f"Set {section}: {{{fields}}}, or take" if changes else "Take"
    return (
        f"{name} ({model_type}) isn't causal: each token sees those after it, which it is to "
        f"predict. {way} a causal model."
    )
