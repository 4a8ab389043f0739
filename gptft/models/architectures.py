"""A model type -> the fields of its config class, read from transformers' source.

Importing a single config class loads torch, which takes seconds.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Fields that `to_dict` of every config has (5.23) and that aren't declared as such.
_ALWAYS = frozenset(
    {"_name_or_path", "attn_implementation", "dtype", "model_type", "output_attentions"}
)


@dataclass(frozen=True)
class Architecture:
    """What a config class declares.

    Attributes:
        fields: names with their defaults; None where the default is no literal.
        aliases: other names of some fields, such as hidden_size of GPT-2's n_embd.
        is_causal: whether transformers has a causal language model of this type.
    """

    fields: Mapping[str, Any]
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
    causal = _source("models/auto/modeling_auto.py").partition("CAUSAL_LM_MAPPING_NAMES = ")[2]
    module = model_type.replace("-", "_")
    classes = _classes(f"models/{module}/configuration_{module}.py")
    chain = [found[1]]
    while (base := classes.get(chain[-1])) is not None and base.bases:
        chain.append(ast.unparse(base.bases[-1]))
    if chain[-1] != "PreTrainedConfig":  # it has a base in another file
        return None
    fields: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    for node in [_classes("configuration_utils.py")["PreTrainedConfig"]] + [
        classes[name] for name in reversed(chain[:-1])
    ]:
        fields |= _fields(node)
        aliases |= _aliases(node)
    is_causal = re.search(entry, causal.partition("\n)\n")[0]) is not None
    return Architecture(fields, aliases, is_causal)


@cache
def activations() -> frozenset[str]:
    """The names of activation functions that transformers has."""
    return frozenset(re.findall(r'^    "(\w+)":', _source("activations.py"), re.MULTILINE))


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


def _aliases(node: ast.ClassDef) -> dict[str, str]:
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "attribute_map":
            return dict(ast.literal_eval(line.value))
    return {}
