"""A model type -> the fields of its config class, read from transformers' source.

Importing a single config class loads torch, which takes seconds.
"""

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

from gptft.config.numbers import LARGEST, as_whole
from gptft.terminal.words import wrong_value

# Fields that `to_dict` of every config has (5.23) and that aren't declared as such.
_ALWAYS = frozenset(
    {"_name_or_path", "attn_implementation", "dtype", "model_type", "output_attentions"}
)
# Types that annotations of fields are made of; values of others are left to the class.
_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    NoneType: "null",
}
_PLAIN = {one.__name__: one for one in _WORDS} | {"None": NoneType}

COMMON_BUFFERS = frozenset(
    {"e_score_correction_bias", "expert_bias", "embed_scale", "scalar_cells", "layer_scalar",
     "slope_rate", "query_decay", "key_decay", "diagonal_decay"}
)  # fmt: skip
"""What many types keep beside weights: routers' load balances, scales, decays."""


class LinearLayers(NamedTuple):
    """What the code of a model type says of its linear layers.

    Attributes:
        experts: like which type's those of its experts are joined in memory, if files have them
            one by one: mixtral or qwen2_moe.
        names: what it calls linear layers.
    """

    experts: str | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Architecture:
    """What a config class declares.

    Attributes:
        fields: names with their defaults; None where the default is no literal.
        types: names with their annotations, where these are of plain types.
        ranges: names with the smallest and the largest value, where the class says so.
        aliases: other names of some fields, such as hidden_size of GPT-2's n_embd.
        is_causal: whether transformers has a causal language model of this type.
    """

    fields: Mapping[str, Any]
    types: Mapping[str, tuple[type, ...]]
    ranges: Mapping[str, tuple[float, float]]
    aliases: Mapping[str, str]
    is_causal: bool

    @property
    def names(self) -> frozenset[str]:
        """All names that a config of this class may set."""
        return _ALWAYS | self.fields.keys() | self.aliases.keys()

    def value(self, config: Mapping[str, Any], name: str) -> Any:
        """A field of a config under whichever of its names, or its default."""
        own = self.aliases.get(name, name)
        spellings = [own, *(alias for alias, field in self.aliases.items() if field == own)]
        given = (config[spelling] for spelling in spellings if spelling in config)
        return next(given, self.fields.get(own))

    def _as_meant(self, name: str, value: Any) -> Any:
        types = self.types.get(self.aliases.get(name, name), ())
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if float in types and int not in types and is_whole and abs(value) <= LARGEST:
            return float(value)
        return as_whole(value) if int in types and float not in types else value

    def problem(self, name: str, value: Any) -> str | None:
        """Why the config class refuses a value, in the words that follow a field's name.

        >>> find_architecture("gpt2").problem("initializer_range", "1")
        " must be a number, not the text '1'."
        """
        value = self._as_meant(name, value)
        own = self.aliases.get(name, name)
        types = self.types.get(own)
        if types is not None and not _is_one_of(value, types):
            words = [_WORDS[one] for one in types if one is not int or float not in types]
            wanted = " or ".join(dict.fromkeys(words))
            return f" must be {wanted}, not {wrong_value(value)}."
        low, high = self.ranges.get(own, (-math.inf, math.inf))
        if isinstance(value, int | float) and not low <= value <= high:
            return f" must be from {low:g} to {high:g}, not {value}."
        return None


def as_meant(fields: Mapping[str, Any], model_type: Any) -> dict[str, Any]:
    """Fields of a config with numbers of the types that its class declares, and takes alone.

    >>> as_meant({"initializer_range": 1, "n_layer": 2.0}, "gpt2")
    {'initializer_range': 1.0, 'n_layer': 2}
    """
    try:
        architecture = find_architecture(model_type) if isinstance(model_type, str) else None
    except LookupError:
        architecture = None
    if architecture is None:
        return dict(fields)
    return {name: architecture._as_meant(name, value) for name, value in fields.items()}


@cache
def find_architecture(model_type: str) -> Architecture | None:
    """The architecture of a model type; None where the source doesn't tell.

    Raises:
        LookupError: transformers has no such type.

    >>> find_architecture("gpt2").aliases["hidden_size"]
    'n_embd'
    """
    mapping = _source("models/auto/auto_mappings.py")
    entry = rf'"{re.escape(model_type)}", "(\w+)"'
    if not mapping:
        return None
    if not (found := re.search(rf"\({entry}\)", mapping.partition("SPECIAL_MODEL_TYPE")[0])):
        raise LookupError(model_type)
    module = _module(model_type)
    classes = _classes(f"models/{module}/configuration_{module}.py")
    chain = [found[1]]
    while (base := classes.get(chain[-1])) is not None and base.bases:
        chain.append(ast.unparse(base.bases[-1]))
    if chain[-1] != "PreTrainedConfig":  # it has a base in another file
        return None
    fields: dict[str, Any] = {}
    types: dict[str, tuple[type, ...]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    aliases: dict[str, str] = {}
    for node in [_classes("configuration_utils.py")["PreTrainedConfig"]] + [
        classes[name] for name in reversed(chain[:-1])
    ]:
        fields |= _fields(node)
        types |= _types(node)
        ranges |= _ranges(node)
        aliases |= _aliases(node)
    return Architecture(fields, types, ranges, aliases, model_type in causal_types())


@cache
def causal_types() -> frozenset[str]:
    """The types that transformers has a causal language model of; empty if it doesn't tell."""
    return frozenset(re.findall(r'\("([\w-]+)", "\w+"\)', _causal_lines()))


def _causal_lines() -> str:
    source = _source("models/auto/modeling_auto.py").partition("CAUSAL_LM_MAPPING_NAMES = ")[2]
    return source.partition("\n)\n")[0]


@cache
def activations() -> frozenset[str]:
    """The names of activation functions that transformers has."""
    return frozenset(re.findall(r'^    "(\w+)":', _source("activations.py"), re.MULTILINE))


@cache
def rope_types() -> frozenset[str]:
    """How transformers can stretch rotary positions; empty where its source doesn't tell."""
    source = _source("modeling_rope_utils.py")
    found = re.findall(r'^    "(\w+)": _compute_\w+,$', source, re.MULTILINE)
    return frozenset([*found, "default"] if found else [])


def turns_heads(model_type: str) -> bool:
    """Whether the code of a model type has rotary positions."""
    return "RotaryEmbedding(" in _code(model_type)


@cache
def buffer_names(*model_types: str) -> frozenset[str]:
    """The names under which a model keeps numbers that are no parameters.

    Args:
        model_types: its own, and those of its parts.

    Returns:
        the last word of a name, or the last two where only both together tell: what its code calls
        a buffer, what a file calls it, and, unless its code learns them, what other types do.

    >>> [name in buffer_names("inkling2_text") for name in ("e_score_correction_bias", "gate.bias")]
    [True, True]
    >>> "e_score_correction_bias" in buffer_names("laguna")
    False
    """
    code = "".join(_code(model_type) for model_type in model_types)
    buffers = {*COMMON_BUFFERS, *re.findall(r"self\.(\w+) = nn\.Buffer\(", code)}
    buffers |= set(re.findall(r"register_buffer\(\s*\"(\w+)\"", code))  # as older code has it
    learned = set(re.findall(r"self\.(\w+) = nn\.Parameter\(", code))
    buffers -= learned | {"weight", "bias"}  # of linear layers and norms
    in_code = {name for name in buffers if f"self.{name} =" in code}
    return frozenset(buffers | {stored for name in in_code for stored in _stored_as(name)})


@cache
def _stored_as(name: str) -> frozenset[str]:
    """The last two words under which files have a tensor that code calls by another name."""
    renamed = re.findall(
        r'WeightRenaming\(\s*(?:source_patterns=)?r?"([^"]+)",\s*(?:target_patterns=)?r?"([^"]+)"',
        _source("conversion_mapping.py"),
    )
    found = (source.replace("\\", "").split(".") for source, to in renamed if to.endswith(name))
    return frozenset(".".join(words[-2:]) for words in found if words[-1] != name)


@cache
def linear_layers(model_type: str) -> LinearLayers:
    """What of a type's models is a linear layer, or was one before experts were joined.

    >>> [linear_layers(kind).experts for kind in ("minimax", "qwen3_moe", "gpt_oss")]
    ['mixtral', 'qwen2_moe', None]
    >>> [sorted(linear_layers(kind).names & {"gate", "router"}) for kind in ("phimoe", "mixtral")]
    [['router'], []]
    """
    code = _code(model_type)
    derived = re.findall(r"^class (\w+)\(nn\.Linear\)", code, re.MULTILINE)
    made = rf"self\.(\w+) = (?:{'|'.join(['nn.Linear', *derived])})\("
    patterns = _source("conversion_mapping.py").partition("_CONVERSION_PATTERN = {")[2]
    entry = rf'"{re.escape(model_type)}": "(mixtral|qwen2_moe)"'
    joined = re.search(entry, patterns.partition("\n}\n")[0])
    like = "mixtral" if model_type == "mixtral" else joined[1] if joined else None
    return LinearLayers(like, frozenset(re.findall(made, code)))


def zeroes_padding(model_type: str) -> bool:
    """Whether a model of a type loses the embedding of its padding token whenever it is loaded.

    `init.zeros_` leaves loaded weights alone, and doesn't know a view on their data for one.

    >>> [zeroes_padding(kind) for kind in ("llama", "blt", "youtu")]
    [False, False, True]
    """
    return "zeros_(module.weight.data[module.padding_idx])" in _code(model_type)


def can_tie(model_type: str) -> bool:
    """Whether the causal language model of a type can have one table for embeddings and head.

    >>> [can_tie(kind) for kind in ("gpt2", "bigbird_pegasus")]
    [True, False]
    """
    code = _code(model_type)
    named = re.search(rf'"{re.escape(model_type)}", "(\w+)"', _causal_lines())
    chain = [named[1]] if named else []
    for name in chain:  # which grows by the class it is derived from
        found = re.search(rf"^class {name}\((\w+).*?(?=^class |\Z)", code, re.MULTILINE | re.DOTALL)
        if found is None:
            return name != "PreTrainedModel"  # it is defined elsewhere, and may do anything
        if "_tied_weights_keys" in found[0]:
            return True
        chain.append(found[1])
    return True


def _code(model_type: str) -> str:
    module = _module(model_type)
    if not module.isidentifier() or len(module) > 100:  # no file has a longer name
        return ""
    return _source(f"models/{module}/modeling_{module}.py")


def _module(model_type: str) -> str:
    """The folder of a model type, which several types may share."""
    found = re.search(
        rf'"{re.escape(model_type)}", "(\w+)"',
        _source("models/auto/auto_mappings.py").partition("SPECIAL_MODEL_TYPE")[2],
    )
    return found[1] if found else model_type.replace("-", "_")


def _source(path: str) -> str:
    spec = find_spec("transformers")
    file = Path(spec.origin).parent / path if spec and spec.origin else None
    return file.read_text(encoding="utf-8") if file and file.is_file() else ""


@cache
def _classes(path: str) -> dict[str, ast.ClassDef]:
    body = ast.parse(_source(path)).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _fields(node: ast.ClassDef) -> dict[str, Any]:
    """The fields of a dataclass, and the attributes that its methods set."""
    found: dict[str, Any] = {}
    for line in ast.walk(node):
        match line:
            case ast.Attribute(ast.Name("self"), name, ast.Store()) if name[0] != "_":
                found.setdefault(name, None)
            case ast.AnnAssign(ast.Name(name), annotation, value) if not ast.unparse(
                annotation
            ).startswith("ClassVar"):
                found[name] = value.value if isinstance(value, ast.Constant) else None
    return found


def _types(node: ast.ClassDef) -> dict[str, tuple[type, ...]]:
    """The types of fields that are annotated with plain ones alone."""
    found = {}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            names = re.sub(r"\[.*?\]", "", ast.unparse(line.annotation)).split(" | ")
            if all(name in _PLAIN for name in names):
                found[line.target.id] = tuple(_PLAIN[name] for name in names)
    return found


def _ranges(node: ast.ClassDef) -> dict[str, tuple[float, float]]:
    """The ranges of fields declared as `interval(min=0.0, max=1.0)(default=0.02)`."""
    found = {}
    for line in node.body:
        match line:
            case ast.AnnAssign(
                ast.Name(name), value=ast.Call(ast.Call(ast.Name("interval"), keywords=bounds))
            ):
                said = {one.arg: ast.literal_eval(one.value) for one in bounds}
                found[name] = (said.get("min", -math.inf), said.get("max", math.inf))
    return found


def _is_one_of(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value has one of some types, as transformers' strict dataclasses see it."""
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _aliases(node: ast.ClassDef) -> dict[str, str]:
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "attribute_map":
            return dict(ast.literal_eval(line.value))
    return {}
