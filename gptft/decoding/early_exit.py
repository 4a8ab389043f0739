"""A model's first layers as a model of their own: a draft, or an amateur, that costs no memory."""

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from gptft.decoding.layers import check_first_layers
from gptft.errors import ModelError


def first_layers(model: PreTrainedModel, num_layers: int) -> PreTrainedModel:
    """The model with only its first decoder layers, then its final norm and its head.

    Args:
        model: a causal one whose decoder keeps its layers in one list.
        num_layers: how many to keep, >= 1 and fewer than there are.

    Returns:
        A model with the same parameters and buffers, and a config and generation config of its
        own.

    Raises:
        ConfigError: num_layers is out of range.
        ModelError: the list of layers can't be found.

    Source: Elhoushi et al. 2024 (2404.16710), section 4: inference by early exit.
    """
    _, _, layers = decoder_layers(model)
    check_first_layers(num_layers, total=len(layers))
    # Copied whole but for the tensors: hooks that one of the two installs stay its own.
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    view: PreTrainedModel = copy.deepcopy(model, shared)
    decoder, name, layers = decoder_layers(view)
    setattr(decoder, name, nn.ModuleList(list(layers)[:num_layers]))
    parts = (view, view.base_model, decoder)
    configs = {id(c): c for part in parts if (c := getattr(part, "config", None)) is not None}
    for config in configs.values():
        _shorten(config.get_text_config(decoder=True), num_layers)
    return view


def decoder_layers(model: PreTrainedModel) -> tuple[nn.Module, str, nn.ModuleList]:
    """The decoder of a model, the name of its list of layers, and the list.

    Raises:
        ModelError: there is no such list, or more than one.
    """
    config = model.config.get_text_config(decoder=True)
    num_layers = getattr(config, "num_hidden_layers", None)
    found: list[tuple[nn.Module, str, nn.ModuleList]] = []
    inner: tuple[str, ...] = ()
    for path, module in model.base_model.named_modules():
        # A layer's own lists, such as its experts, may happen to be as long.
        if not isinstance(module, nn.ModuleList) or path.startswith(inner):
            continue
        inner = (*inner, f"{path}.")
        if len(module) == num_layers:
            parent, _, name = path.rpartition(".")
            found.append((model.base_model.get_submodule(parent), name, module))
    if len(found) != 1:
        raise ModelError(
            f"The decoder layers of {type(model).__name__} can't be told apart: there are "
            f"{len(found)} lists of {num_layers} layers, not 1. Take another strategy."
        )
    return found[0]


def _shorten(config: PreTrainedConfig, num_layers: int) -> None:
    """Cut a config and its lists with an entry for each layer down to the first layers."""
    total = config.num_hidden_layers
    for name, value in vars(config).items():
        per_layer = "token" not in name and name != "architectures"
        if per_layer and isinstance(value, list | tuple) and len(value) == total:
            setattr(config, name, value[:num_layers])
    config.num_hidden_layers = num_layers
