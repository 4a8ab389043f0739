"""The name of a flag of `gptft train` -> the setting it stands for, as `--set` would name it."""

from collections.abc import Mapping
from functools import cache

from gptft.config.training_fields import MEANT, OWN_FIELDS, RENAMED, known_fields

# Settings of other sections, by the names of transformers' run_clm.py and by shorter ones.
_SECTIONS = {
    "model": "model.name",
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "dtype": "model.dtype",
    "tokenizer_name": "tokenizer.name",
    "validation": "data.validation",
    "validation_file": "data.validation",
    "block_size": "data.block_size",
    "streaming": "data.streaming",
    "out": "training.output_dir",
}
# Switches of earlier transformers: they had no value.
_OLD_SWITCHES = {
    "group_by_length", "include_tokens_per_second", "no_cuda", "overwrite_output_dir",
    "save_safetensors", "use_mps_device",
}  # fmt: skip


def flag(name: str) -> str:
    """The flag of that name.

    >>> flag("learning_rate")
    '--learning-rate'
    """
    return f"--{name.replace('_', '-')}"


@cache
def flag_settings() -> Mapping[str, tuple[str, ...]]:
    """Every flag and the setting it stands for: each field of `training` has one, and old names."""
    names = {name: name for name in (*known_fields()[1], *OWN_FIELDS, *RENAMED)}
    settings = {name: f"training.{field}" for name, field in (names | MEANT).items()} | _SECTIONS
    return {flag(name): tuple(setting.split(".")) for name, setting in settings.items()}


@cache
def switches() -> frozenset[str]:
    """The flags that may stand without a value, which then is true."""
    fields = {name for name, entry in known_fields()[1].items() if "bool" in entry["types"]}
    fields |= {name for name, row in OWN_FIELDS.items() if row.kind.name == "bool"}
    return frozenset(map(flag, fields | _OLD_SWITCHES | {"streaming"}))
