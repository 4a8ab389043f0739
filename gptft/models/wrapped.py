"""The names of stored weights -> what a wrapper put before every one of them.

`torch.compile`, DataParallel, DDP and some trainers save the model within their wrapper.
"""

import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

_WRAPPERS = re.compile(r"(?:_orig_mod\.|_fsdp_wrapped_module\.|module\.)+")


def wrapper_prefix(folder: Path) -> str:
    """What stands before every name in a folder's safetensors; empty where nothing does.

    Raises:
        Exception: a file can't be read; safetensors raises a dozen types.
    """
    prefixes = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it isn't a mapping)
                found = _WRAPPERS.match(name)
                prefixes.add(found[0] if found else "")
    return prefixes.pop() if len(prefixes) == 1 else ""


def key_mapping(prefix: str) -> dict[str, str] | None:
    """What `from_pretrained` is told to take a prefix off; None where there is none."""
    return {f"^{re.escape(prefix)}": ""} if prefix else None


def save_unwrapped(model: Any, prefix: str) -> None:
    """Let `save_pretrained` write plain names.

    transformers keeps the mapping it loaded with, and turns it back when it saves (5.23).
    """
    mapping = key_mapping(prefix) or {}
    kept = getattr(model, "_weight_conversions", None)
    if mapping and kept:
        model._weight_conversions = [
            one for one in kept if not set(mapping) & set(one.source_patterns)
        ]
