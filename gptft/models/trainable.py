"""The fields of a model's config -> whether it can be trained and loaded again as it was saved."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from gptft.errors import ModelError
from gptft.models.architectures import zeroes_padding
from gptft.models.causal import require_causal


def require_trainable(config: Mapping[str, Any], *, name: str, section: str) -> None:
    """Refuse a model that isn't causal, or that transformers doesn't load as it was saved.

    Args:
        config: its fields; `model_type` among them.
        name: what a message calls the model.
        section: where fields of its config can be changed.

    Raises:
        ModelError: as said, with what to change.
    """
    require_causal(config, name=name, section=section)
    model_type = config["model_type"]
    if config.get("pad_token_id") is not None and zeroes_padding(model_type):
        raise ModelError(
            f"{name} ({model_type}): transformers {version('transformers')} sets the embedding of "
            "the padding token to zero whenever it loads such a model, so that what training makes "
            f"of it would be lost. Set {section}: {{pad_token_id: null}}; blocks need no padding."
        )
