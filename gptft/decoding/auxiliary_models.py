"""Settings that name a model -> that model, loaded: drafts, amateurs, experts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding.limits import other_tokenizer
from gptft.decoding.settings import MODEL_SETTINGS, Settings
from gptft.errors import ConfigError
from gptft.models.hub import find_model
from gptft.models.load import load_for_inference
from gptft.models.precision import DtypeName
from gptft.tokenization.auto import load_auto_tokenizer


@dataclass(frozen=True)
class AuxiliaryModels:
    """The models besides the main one.

    Attributes:
        models: by the setting that names them.
        assistant_tokenizer: of the draft model, where it isn't the main model's.
    """

    models: Mapping[str, PreTrainedModel] = field(default_factory=dict)
    assistant_tokenizer: PreTrainedTokenizerBase | None = None


def load_auxiliary_models(
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device,
    dtype: DtypeName,
    loaded: dict[str, PreTrainedModel] | None = None,
) -> AuxiliaryModels:
    """Load every model that `settings` name besides the main one.

    Args:
        settings: see `resolve_settings`.
        tokenizer: of the main model.
        device: where to.
        dtype: of the weights.
        loaded: models by name that need no loading; those that are loaded are added.

    Raises:
        ConfigError: one that must share the main model's tokenizer doesn't.
        ModelError: one can't be found or read.
    """
    loaded = {} if loaded is None else loaded
    models: dict[str, PreTrainedModel] = {}
    assistant_tokenizer = None
    for setting in MODEL_SETTINGS:
        name = settings[setting]
        if name is None:
            continue
        files = find_model(name)
        theirs = load_auto_tokenizer(files)
        if theirs.get_vocab() != tokenizer.get_vocab():
            if setting != "assistant_model":
                sizes = {"theirs": len(theirs), "ours": len(tokenizer)}
                raise ConfigError(other_tokenizer(setting, name, **sizes))
            assistant_tokenizer = theirs
        if name not in loaded:
            loaded[name] = load_for_inference(files, device=device, dtype=dtype)
        models[setting] = loaded[name]
    return AuxiliaryModels(models, assistant_tokenizer)
