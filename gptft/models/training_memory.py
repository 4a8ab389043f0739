"""A model's anatomy -> the memory that training takes beside its weights, by formulas.

They are those of `gptft train` on a CPU, without dropout or activation checkpointing. What other
architectures keep isn't told: `gptft plan` counts it on tensors without contents.
"""

from gptft.models.anatomy import Anatomy

FLOAT = 4  # bytes
LOGITS_ROWS = 1024  # tokens whose logits are made at once
# Floats kept of a token and layer, as multiples of the width, of the feed-forward's inner width,
# and of what a layer's keys are wide. Counted, see docs/experiments.md.
_KEPT = {
    "gpt2": (8, 2, 0), "gpt_neox": (10, 2, 0), "llama": (6, 2, 2), "mistral": (6, 2, 2),
    "qwen2": (6, 2, 2), "qwen3": (7, 2, 3), "smollm3": (6, 2, 2),
}  # fmt: skip
_MIXED = 0.8  # of these bytes are kept where layers compute in bfloat16: 0.70 to 0.94


def kept_of_token(anatomy: Anatomy, *, is_mixed: bool = False) -> int | None:
    """What all layers keep of a token for their gradients, in bytes; None where it isn't known."""
    layers, width, inner = anatomy.layers, anatomy.width, anatomy.inner
    if anatomy.model_type not in _KEPT or not (layers and width and inner):
        return None
    keys = (anatomy.kv_heads or 0) * (anatomy.head_dim or 0)
    of_width, of_inner, of_keys = _KEPT[anatomy.model_type]
    floats = layers * (of_width * width + of_inner * inner + of_keys * keys)
    return int(FLOAT * floats * (_MIXED if is_mixed else 1))


def logits_bytes(anatomy: Anatomy, *, num_tokens: int) -> int | None:
    """What the output layer takes for a batch of so many tokens."""
    if anatomy.vocab_size is None:
        return None
    return FLOAT * anatomy.vocab_size * min(num_tokens, LOGITS_ROWS)
