"""The `model` section of a config -> what would keep the model from being loaded or made.

Reads JSON files and transformers' source; weights are only asked whether they are there.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeGuard

from gptft.config.numbers import LARGEST, MAX_BLOCK_SIZE, MAX_VOCAB_SIZE, beyond_sense
from gptft.config.sections import ModelConfig
from gptft.config.source import KeyPath
from gptft.config.suggest import did_you_mean
from gptft.errors import GptftError, ModelError
from gptft.models.architectures import (
    Architecture,
    activations,
    as_meant,
    causal_types,
    find_architecture,
    rope_types,
)
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles
from gptft.models.present import find_weights
from gptft.models.source import expand_models
from gptft.models.trainable import require_trainable

Problem = tuple[KeyPath, str]  # a setting, and a message that names it

# Architectures whose attention ignores the positions by which documents are masked (5.23).
_CANNOT_MASK = ("bloom", "opt")
# What attn_implementation may be (5.23), and the package it needs.
_ATTENTION = {
    "eager": "", "sdpa": "", "flex_attention": "",
    "flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_3",
}  # fmt: skip
# What decides the shapes of weights, under names that `attribute_map` knows for all architectures.
_SIZES = (
    "hidden_size", "vocab_size", "intermediate_size", "n_inner", "num_key_value_heads",
    "attention_bias", "mlp_bias",
)  # fmt: skip
# The most of each that a model may have; above it nothing could hold its weights.
_LARGEST_SIZES = {
    "vocab_size": MAX_VOCAB_SIZE,
    "max_position_embeddings": MAX_BLOCK_SIZE,
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 10_000),
    **dict.fromkeys(("hidden_size", "intermediate_size", "n_inner", "head_dim"), 1_000_000),
}
_HEADS = ("num_attention_heads", "head_dim")  # these do where a width changes with them


_UNKNOWN = Architecture({}, {}, {}, {}, is_causal=True)


def model_problems(model: ModelConfig, *, masks_documents: bool) -> list[Problem]:
    """Everything that is wrong with a model section.

    Args:
        model: the section.
        masks_documents: whether documents are masked from each other.
    """
    problems: list[Problem] = []
    model_type: Any = None
    if model.from_scratch is not None:
        model_type = model.from_scratch["model_type"]
        problems += _new_model_problems(model.from_scratch)
        problems += _untrainable(
            {"pad_token_id": 0, **model.from_scratch},  # as new_model sets it
            name="The new model",
            section="model.from_scratch",
        )
    else:
        try:
            files = find_weights(model.name, revision=model.revision)
            if files is None:  # on the hub: its config is fetched, and says the rest
                files = find_model(model.name, revision=model.revision, with_weights=False)
            model_type = files.config.get("model_type")
            if not isinstance(model_type, str):
                raise ModelError(f"{files.folder}: its config.json names no model_type.")
        except GptftError as error:
            return [(("model", "name"), str(error))]
        if causal_types() and model_type not in causal_types():
            problems.append((("model", "name"), no_language_model(files.name, model_type)))
        try:
            require_unquantized(files.config, name=files.name)
        except ModelError as error:
            problems.append((("model", "name"), str(error)))
        problems += _override_problems(model.config_overrides, files)
        in_force = {**files.config, **model.config_overrides}
        problems += _untrainable(in_force, name=files.name, section="model.config_overrides")
    try:
        for name in expand_models(one.name for one in model.average_with):
            find_weights(name)
    except GptftError as error:
        problems.append((("model", "average_with"), str(error)))
    if masks_documents and model_type in _CANNOT_MASK:
        why = f"data.isolate_documents: {model_type} can't mask documents. Use false."
        problems.append((("data", "isolate_documents"), why))
    return problems


def _untrainable(config: Mapping[str, Any], *, name: str, section: str) -> Iterator[Problem]:
    try:
        require_trainable(config, name=name, section=section)
    except ModelError as error:
        yield tuple(section.split(".")), str(error)


def quantization_method(config: Mapping[str, Any]) -> str | None:
    """By what method a config.json says that the weights are quantized, if they are."""
    stored = config.get("quantization_config")
    if stored is None:
        return None
    named = stored.get("quant_method") if isinstance(stored, Mapping) else None
    return named if isinstance(named, str) and named else "without a name"


def require_unquantized(config: Mapping[str, Any], *, name: str) -> None:
    """Refuse to train weights that are quantized.

    Raises:
        ModelError: they are.
    """
    if (method := quantization_method(config)) is not None:
        raise ModelError(
            f"{name} is quantized ({method}), and quantized weights can't be trained. Take the "
            "model that it was made of."
        )


def unknown_model_type(model_type: str) -> str:
    """What to say of a new model whose kind transformers doesn't have."""
    return (
        f"model.from_scratch.model_type: transformers knows no {model_type!r}. "
        "Take gpt2, llama, gpt_neox or another causal one."
    )


def no_language_model(name: str, model_type: str) -> str:
    """What to say of a base whose architecture doesn't predict the next token."""
    return (
        f"{name} is a {model_type}, and transformers {version('transformers')} has no causal "
        "language model of that type. Take a GPT."
    )


def too_small_vocabulary(asked: int, ids: int) -> str:
    """What to say of a new model that has fewer embeddings than its tokenizer has ids."""
    return (
        f"model.from_scratch.vocab_size is {asked:,}, fewer than the tokenizer's {ids:,} ids. "
        "Leave it out."
    )


def _new_model_problems(sizes: Mapping[str, Any]) -> Iterator[Problem]:
    section, model_type = ("model", "from_scratch"), sizes["model_type"]
    try:
        architecture = find_architecture(model_type)
        is_causal = architecture is None or architecture.is_causal
    except LookupError:
        architecture, is_causal = None, False
    if not is_causal:
        yield (*section, "model_type"), unknown_model_type(model_type)
        return
    fields = {name: value for name, value in sizes.items() if name != "model_type"}
    if architecture is None:
        yield from _placed(section, _beyond_sense(fields))
    else:
        fields = as_meant(fields, model_type)
        yield from _config_problems(section, fields, architecture, in_force=fields)


def _override_problems(overrides: Mapping[str, Any], files: ModelFiles) -> Iterator[Problem]:
    """Overrides that its config class doesn't have, or its weights don't fit."""
    try:
        architecture = find_architecture(files.config["model_type"]) if overrides else None
    except LookupError:
        architecture = None
    if architecture is None:
        yield from _placed(("model", "config_overrides"), _beyond_sense(overrides))
        return
    overrides = as_meant(overrides, files.config["model_type"])
    section, in_force = ("model", "config_overrides"), {**files.config, **overrides}
    wrong = set()
    for path, message in _config_problems(section, overrides, architecture, in_force=in_force):
        wrong.add(path[-1])
        yield path, message
    depth = architecture.aliases.get("num_hidden_layers", "num_hidden_layers")
    fixed = {architecture.aliases.get(name, name) for name in _SIZES}
    positions = architecture.aliases.get("max_position_embeddings")
    if positions is not None and "rotary_dim" not in architecture.fields:
        fixed.add(positions)  # as in GPT-2, where each has a row of weights
    if _attention_widths(architecture, files.config) != _attention_widths(architecture, in_force):
        fixed |= {architecture.aliases.get(name, name) for name in _HEADS}
    for name, value in overrides.items():
        if name in wrong:
            continue
        own, stored = architecture.aliases.get(name, name), architecture.value(files.config, name)
        is_deeper = own == depth and isinstance(value, int) and value > (stored or 0)
        if is_deeper or (own in fixed and value != stored):
            yield (
                (*section, name),
                f"model.config_overrides.{name} is {value}, and the weights of {files.name} are "
                f"made for {stored}. Leave it out.",
            )


def _attention_widths(
    architecture: Architecture, config: Mapping[str, Any]
) -> tuple[int, int] | None:
    """How wide queries and keys are; None where the config doesn't tell."""
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    width, heads, key_heads, head_width = (architecture.value(config, name) for name in names)
    if not (_is_whole(width) and _is_whole(heads) and heads > 0):
        return None
    if not all(size is None or _is_whole(size) for size in (key_heads, head_width)):
        return None
    head_width = head_width or width // heads
    return heads * head_width, (key_heads or heads) * head_width


def _placed(section: tuple[str, ...], found: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """The first message of each field, with its place."""
    placed: set[str] = set()
    for name, message in found:
        if message and name not in placed:
            placed.add(name)
            yield (*section, name), f"{'.'.join(section)}.{name}{message}".rstrip()


def _config_problems(
    section: tuple[str, ...],
    fields: Mapping[str, Any],
    architecture: Architecture,
    *,
    in_force: Mapping[str, Any],
) -> Iterator[Problem]:
    """What a config class would refuse; for each field the most telling.

    Args:
        section: where `fields` are written.
        fields: as they are written.
        architecture: whose fields they are to be.
        in_force: all fields of the config with them.
    """
    yield from _placed(
        section,
        [
            *_unknown_fields(fields, architecture),
            *_beyond_sense(fields, architecture),
            *_wrong_heads(in_force, architecture, written=fields),
            *_wrong_values(fields, architecture, in_force=in_force),
            *((name, architecture.problem(name, value) or "") for name, value in fields.items()),
        ],
    )


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


# Each of these gives a field, and a message that continues its name.


def _unknown_fields(
    fields: Mapping[str, Any], architecture: Architecture
) -> Iterator[tuple[str, str]]:
    for name in fields:
        if name not in architecture.names:
            hint = did_you_mean(name, sorted(architecture.names))
            yield name, f" is not a field of this model's config. {hint}"


def _beyond_sense(
    fields: Mapping[str, Any], architecture: Architecture = _UNKNOWN
) -> Iterator[tuple[str, str]]:
    """Numbers that aren't finite, or larger than any model's, also within lists and mappings."""
    bounds = {architecture.aliases.get(name, name): most for name, most in _LARGEST_SIZES.items()}
    for name, value in fields.items():
        own = architecture.aliases.get(name, name)
        # A whole number of a mapping (rope_theta: 10000000000) may stand for one with a point.
        most = bounds.get(own, None if int in architecture.types.get(own, ()) else LARGEST)
        for within, number in _numbers_in(value):
            if problem := beyond_sense(number, most=most):
                yield name, f"{within} {problem}"
                break


def _numbers_in(value: Any, within: str = "") -> Iterator[tuple[str, int | float]]:
    """A number, or those in a list or a mapping, however deep, and where each of them is."""
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _numbers_in(item, f"{within}.{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield within, value


def _wrong_values(
    fields: Mapping[str, Any], architecture: Architecture, *, in_force: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Values that no architecture takes: of sizes, dropout, activations, attention, padding."""
    ids = in_force.get("vocab_size")
    for name, value in fields.items():
        own = architecture.aliases.get(name, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is None:
            continue
        if own.endswith(("pdrop", "dropout")) and not (is_number and 0 <= value <= 1):
            yield name, f" must be a number from 0 to 1, not {value!r}."
        elif own in ("activation_function", "hidden_act"):
            if (known := activations()) and str(value) not in known:
                yield name, f" can't be {value!r}. {did_you_mean(str(value), sorted(known))}"
        elif own == "attn_implementation":
            if str(value) not in _ATTENTION:
                yield name, f" can't be {value!r}. Take one of {', '.join(_ATTENTION)}."
            elif (package := _ATTENTION[value]) and find_spec(package) is None:
                yield name, f": {value} needs the package {package}. Install it."
        elif own == "rope_parameters" and isinstance(value, Mapping):
            kind, known = value.get("rope_type", "default"), rope_types()
            if known and str(kind) not in known:
                hint = did_you_mean(str(kind), known) or f"Take one of {', '.join(sorted(known))}."
                yield name, f".rope_type can't be {kind!r}. {hint}"
        elif own in ("intermediate_size", "n_inner") and is_number and value < 1:
            yield name, f" must be a whole number from 1, not {value!r}."
        elif own == "pad_token_id" and is_number and _is_whole(ids) and value >= ids:
            yield name, f" is {value}, and there are {ids} ids."


def _wrong_heads(
    fields: Mapping[str, Any], architecture: Architecture, *, written: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Widths and heads must be whole numbers, and heads must divide the width.

    Sizes that are all a class's own defaults are right, however the class divides them (glm4_moe).
    """
    sizes = {}
    for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"):
        own = architecture.aliases.get(name, name)
        given = next((key for key in (own, name) if key in fields), own)
        value = sizes[name] = architecture.value(fields, name)
        if given in fields and not (_is_whole(value) and value > 0):
            yield given, f" must be a whole number from 1, not {value!r}."
            return
    width, heads, _ = sizes.values()
    stated = architecture.value(fields, "head_dim")
    key_heads = architecture.value(fields, "num_key_value_heads")
    name = architecture.aliases.get("num_attention_heads", "num_attention_heads")
    aliases = architecture.aliases
    sized = {aliases.get(n, n) for n in (*sizes, "head_dim", "num_key_value_heads")}
    if not (width and heads and sized & {aliases.get(key, key) for key in written}):
        return
    if stated is not None and not _is_whole(stated):
        return  # its own type says so
    if not stated and width % heads:
        yield name, f": {heads} heads don't divide a width of {width}."
    elif isinstance(key_heads, int) and (key_heads < 1 or heads % key_heads):
        yield name, f": {key_heads} heads of keys don't divide {heads} heads."
    elif _turns_whole_heads(architecture) and (odd := stated or width // heads) % 2:
        yield name, f": heads of {odd} are odd, and positions turn pairs (RoPE)."


def _turns_whole_heads(architecture: Architecture) -> bool:
    """Whether all of a head is turned by its position, two numbers at a time (RoPE)."""
    names = architecture.fields.keys()
    return "rope_parameters" in names and not names & {"partial_rotary_factor", "rotary_pct"}
