"""The sizes of a new model -> a model of transformers with random weights."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from gptft.errors import ConfigError
from gptft.models.architectures import as_meant
from gptft.models.check import too_small_vocabulary, unknown_model_type
from gptft.models.dropout import set_dropout
from gptft.models.load import check_fields, let_padding_learn
from gptft.models.trainable import require_trainable


def new_model(
    sizes: Mapping[str, Any],
    *,
    vocab_size: int,
    eos_token_id: int,
    bos_token_id: int | None = None,
    dropout: float | None = None,
    seed: int,
) -> PreTrainedModel:
    """Make a model with random weights.

    Args:
        sizes: `model_type` and any field of that type's config class.
        vocab_size: of its tokenizer; a larger `vocab_size` among the sizes is kept.
        eos_token_id: set as EOS, BOS and PAD where the sizes don't say otherwise.
        bos_token_id: set as BOS, where it isn't EOS.
        dropout: its rates of dropout that the sizes don't say; None for its type's own.
        seed: of the weights.

    Raises:
        ConfigError: there is no such type, or it has no such field, or its values don't go
            together.
    """
    model_type = sizes["model_type"]
    fields = as_meant({k: v for k, v in sizes.items() if k != "model_type"}, model_type)
    try:
        config = AutoConfig.for_model(model_type)
    except ValueError:
        raise ConfigError(unknown_model_type(model_type)) from None
    check_fields(config, fields, section="model.from_scratch")
    named = {**config.to_dict(), "pad_token_id": eos_token_id, **fields}
    require_trainable(named, name="The new model", section="model.from_scratch")
    asked = int(fields.get("vocab_size", vocab_size))
    if asked < vocab_size:
        raise ConfigError(too_small_vocabulary(asked, vocab_size))
    special = dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), eos_token_id)
    if bos_token_id is not None:
        special["bos_token_id"] = bos_token_id
    torch.manual_seed(seed)
    try:
        config = AutoConfig.for_model(model_type, **{**special, **fields, "vocab_size": asked})
        if dropout is not None:
            set_dropout(config, dropout, but=fields)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # each architecture checks its sizes in its own way
        reason = " ".join(str(error).split())
        raise ConfigError(f"model.from_scratch: {model_type} refuses it: {reason}") from None
    place = let_padding_learn(model)
    if place is not None:  # its embedding starts at zero; the mean of all is a better start
        weight: torch.Tensor = model.get_input_embeddings().weight.data  # type: ignore[assignment]
        weight[place] = weight.mean(dim=0)
    return model
