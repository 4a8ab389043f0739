"""A base model's name, or the sizes of a new one -> a model and its tokenizer, of transformers.

Only safetensors are read and no remote code is ever run; a hub id becomes a local folder first, so
that loading itself doesn't ask the network.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from gptft.config.suggest import did_you_mean
from gptft.console import notice, stage
from gptft.errors import ConfigError, ModelError
from gptft.models.adapter_fit import require_fit
from gptft.models.adapters import adapter_words
from gptft.models.architectures import as_meant
from gptft.models.average import average_weights, check_alike
from gptft.models.causal import require_causal
from gptft.models.check import (
    no_language_model,
    quantization_method,
    require_unquantized,
)
from gptft.models.dequantized import dequantized
from gptft.models.dropout import set_dropout
from gptft.models.foreign import no_tokenizer
from gptft.models.hub import find_model
from gptft.models.model_files import (
    ModelFiles,
    context_length,
    has_safetensors,
    pickled_files,
)
from gptft.models.pickled import unpickled
from gptft.models.precision import DtypeName, inference_dtype, training_dtype
from gptft.models.present import require_weights
from gptft.models.reading import generation_config, reading
from gptft.models.sizes import require_sizes
from gptft.models.source import expand_models
from gptft.models.trainable import require_trainable
from gptft.models.weights import check_finite, unused_notice
from gptft.models.wrapped import key_mapping, save_unwrapped, wrapper_prefix
from gptft.terminal.text import shown_path

_ATTENTION = "attn_implementation"  # a keyword of config classes that no config shows as a field
_ATTENTION_FIELD = "_attn_implementation"


def load_for_training(
    model: str | ModelFiles,
    *,
    dtype: DtypeName = "auto",
    config_overrides: Mapping[str, Any] | None = None,
    dropout: float | None = None,
    average_with: Iterable[tuple[str, float]] = (),
    loading: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Load a base model to be trained on, on the CPU; `Trainer` moves it.

    Args:
        model: pico, a model or run folder, or a hub id; or its files.
        dtype: of the weights; auto is float32.
        config_overrides: fields of its config to change.
        dropout: its rates of dropout, but those among `config_overrides`; None for its own.
        average_with: models of the same config, or globs of their folders, each with how much it
            counts beside the model, which counts as 1; the mean of all weights is what is loaded.
        loading: what `from_pretrained` is told besides, see `quantized_loading`.

    Raises:
        ModelError: it can't be found or read, or isn't of one kind with one of `average_with`.
        ConfigError: an override names no field of its config.
    """
    files = find_model(model)
    require_unquantized(files.config, name=files.name)
    _require_sizes(files)
    stored = load_config(files.folder).to_dict()
    config = training_config(files, config_overrides=config_overrides, dropout=dropout)
    weights_dtype = training_dtype(dtype)
    if loading and files.adapters:
        raise ModelError(
            f"{files.name} is an adapter, and can't be quantized (lora.quantize). Merge it first, "
            "with gptft merge, and train on the model that it makes."
        )
    loaded = _load_merged(files, config=config, dtype=weights_dtype, loading=loading)
    others = [
        (*_config_like(stored, name=other, of=files.name), share)
        for pattern, share in average_with
        for other in expand_models([pattern])
    ]
    if others:
        theirs = (
            (theirs.name, _load_merged(theirs, config=own, dtype=weights_dtype), share)
            for theirs, own, share in others
        )
        average_weights(loaded, theirs, name=files.name)
    let_padding_learn(loaded)
    if files.adapters:
        notice(f"{adapter_words(files)}; merged into its weights.")
    return loaded


def load_for_inference(
    model: str | ModelFiles, *, device: torch.device, dtype: DtypeName = "auto"
) -> PreTrainedModel:
    """Load a model to generate with, in eval mode, in a dtype that its device is fast in.

    Args:
        model: its name or its files.
        device: where it is to be.
        dtype: of the weights; auto is the checkpoint's own where `device` is fast in it.

    Raises:
        ModelError: it can't be found or read.
    """
    files = find_model(model)
    _require_known_quantization(files)
    _require_sizes(files)
    config = load_config(files.folder)
    require_causal(config.to_dict(), name=files.name, section="in its config.json")
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    chosen = inference_dtype(dtype, stored=stored, device=device)
    before = replace(files, adapters=files.adapters[:-1])  # those that the last was trained on
    loaded = _load_merged(before, config=config, dtype=chosen)
    if files.adapters:
        from gptft.models.adapted import apply_adapter, try_adapter

        loaded = apply_adapter(loaded, files.adapters[-1])
    loaded.to(device)  # type: ignore[arg-type]
    loaded.eval()
    if files.adapters:
        try_adapter(loaded, files.adapters[-1])
        notice(f"{adapter_words(files)}; applied as it is.")
    return loaded


def load_auto_tokenizer(model: str | ModelFiles) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer for transformers, with the very ids of its tokenizer.json.

    `AutoTokenizer` rebuilds the pre-tokenizer of GPT-2-like classes from their defaults and drops
    what tokenizer.json says, a digit splitter for one (transformers 5.23); then the file is opened
    as it is.

    Raises:
        ModelError: it can't be found or read.
    """
    files = find_model(model, with_weights=False).tokenizer
    folder = str(files.folder)
    tokenizer: PreTrainedTokenizerBase
    try:
        with reading(files.folder, "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            if not _keeps_its_file(tokenizer, files):
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except ModelError:
        if files.has_tokenizer:
            raise
        raise no_tokenizer(files) from None
    longest: Any = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        path = files.folder / "tokenizer_config.json"
        raise ModelError(f"{path}: model_max_length must be a number, not {longest!r}.")
    names = tokenizer.vocab_files_names.values()
    if names and not any((files.folder / name).is_file() for name in (*names, "tokenizer.json")):
        raise no_tokenizer(files)  # transformers makes an empty one then (5.23)
    return tokenizer


def _keeps_its_file(tokenizer: PreTrainedTokenizerBase, files: ModelFiles) -> bool:
    """Whether a tokenizer cuts text as its tokenizer.json, if there is one, says."""
    stored = files.json("tokenizer.json")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not stored or backend is None:
        return True
    used = json.loads(backend.to_str())
    return all(used.get(part) == stored.get(part) for part in ("normalizer", "pre_tokenizer"))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of control tokens, which are no text."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}


def let_padding_learn(model: PreTrainedModel) -> int | None:
    """Train the embedding of the padding token like any other: mostly it is EOS as well.

    Llama and similar models look it up by `padding_idx`, whose embedding starts at zero and gets no
    gradient. Blocks are padded only where nothing attends, so it has no use here.

    Returns:
        the token's id, where it would not have been trained.
    """
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, torch.nn.Embedding):
        return None
    place, embeddings.padding_idx = embeddings.padding_idx, None
    return place


def context_of(model: PreTrainedModel) -> int | None:
    """The most tokens `model` can see at once, or None where its config sets no limit."""
    return context_length(model.config.to_dict())


def load_config(folder: Path) -> PreTrainedConfig:
    """The config of a model's folder; a ModelError where it can't be read."""
    with reading(folder, "config"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    return config


def training_config(
    files: ModelFiles,
    *,
    config_overrides: Mapping[str, Any] | None = None,
    dropout: float | None = None,
) -> PreTrainedConfig:
    """The config that a base is trained by; see `load_for_training`."""
    config = load_config(files.folder)
    if dropout is not None:
        set_dropout(config, dropout)
    _override(config, config_overrides or {})
    require_trainable(config.to_dict(), name=files.name, section="model.config_overrides")
    return config


def _require_sizes(files: ModelFiles) -> None:
    """`require_sizes` and `require_fit`; weights of other formats are converted first."""
    require_sizes(files, weights=_weights_folder(files))
    require_fit(files)


def _weights_folder(files: ModelFiles) -> Path:
    """The folder that holds the weights as safetensors, or that lacks any.

    Raises:
        ModelError: they can't be converted.
    """
    if files.gguf is not None:
        return dequantized(files.gguf, files.folder, name=files.name)
    is_pickled = not has_safetensors(files.folder) and bool(pickled_files(files.folder))
    return unpickled(files.folder, name=files.name) if is_pickled else files.folder


def _require_known_quantization(files: ModelFiles) -> None:
    method = quantization_method(files.config)
    if method is not None and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        hint = did_you_mean(method, AUTO_QUANTIZATION_CONFIG_MAPPING)
        raise ModelError(
            f"{files.name}: its config.json names the quantization method {method!r}, which "
            f"transformers {version('transformers')} doesn't know. {hint}".rstrip()
        )


def _config_like(
    stored: Mapping[str, Any], *, name: str, of: str
) -> tuple[ModelFiles, PreTrainedConfig]:
    """The files of a model to be averaged, and its config, which is that of the first model."""
    files = find_model(name)
    _require_sizes(files)
    config = load_config(files.folder)
    check_alike(stored, config.to_dict(), name=name, of=of)
    return files, config


def _load_merged(
    files: ModelFiles,
    *,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    loading: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The model with its adapters added to its weights, which is done in float32."""
    if not files.adapters:
        return _load(files, config=config, dtype=dtype, loading=loading)
    from gptft.models.adapted import merge_adapter

    model = _load(files, config=config, dtype=torch.float32)
    for folder in files.adapters:
        model = merge_adapter(model, folder)
    model.to(dtype)  # type: ignore[arg-type]
    return model


def _load(
    files: ModelFiles,
    *,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    loading: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    name, folder = files.name, files.folder
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(no_language_model(name, config.model_type))
    stored = _weights_folder(files)
    require_weights(stored)
    with stage(f"Loading {shown_path(name)}"), reading(folder, "weights"):
        prefix = wrapper_prefix(stored)
        generation = generation_config(folder, config, is_needed=stored != folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(stored), config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False,
            local_files_only=True, output_loading_info=True, key_mapping=key_mapping(prefix),
            generation_config=generation, ignore_mismatched_sizes=True, **(loading or {}),
        )  # fmt: skip
    model: PreTrainedModel = loaded[0]
    if mismatched := sorted(loaded[1]["mismatched_keys"]):
        name_of, stored_shape, shape = mismatched[0]
        raise ModelError(
            f"{folder}: its config.json doesn't fit its weights: {name_of} is "
            f"{tuple(stored_shape)} in the file and {tuple(shape)} by the config. Take the config "
            "that came with the weights, and leave sizes out of model.config_overrides."
        )
    save_unwrapped(model, prefix)
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {len(missing)} of the weights its config asks for, {missing[0]} among "
            "them. The file is incomplete, or model.config_overrides changes its sizes."
        )
    check_finite(model, name=name)
    if prefix:
        notice(f"{name}: its weights were saved in a wrapper; {prefix} is left out of their names.")
    if unused := unused_notice(loaded[1]["unexpected_keys"], name=name):
        notice(unused)
    return model


def _override(config: PreTrainedConfig, overrides: Mapping[str, Any]) -> None:
    check_fields(config, overrides, section="model.config_overrides")
    for name, value in as_meant(overrides, config.model_type).items():
        setattr(config, _ATTENTION_FIELD if name == _ATTENTION else name, value)


def check_fields(config: PreTrainedConfig, fields: Mapping[str, Any], *, section: str) -> None:
    """Refuse `fields` that a config's class hasn't got; `section` is what they stand in."""
    known = [*config.to_dict(), *config.attribute_map, _ATTENTION]
    problems = [
        f"{section}.{name} is not a field of {type(config).__name__}. {did_you_mean(name, known)}"
        for name in fields
        if name not in known
    ]
    if problems:
        raise ConfigError(*(problem.rstrip() for problem in problems))
