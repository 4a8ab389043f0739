"""Shapes of an adapter's weights and of a base's -> whether the one is made for the other.

Only what is wrong for certain is looked at, from headers alone: peft has the last word.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gptft.errors import ModelError
from gptft.models.adapters import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    PICKLED_ADAPTER,
    adapter_config,
    adapter_weights,
)
from gptft.models.headers import read_headers, weight_files
from gptft.models.kept import kept_folder
from gptft.models.model_files import ModelFiles
from gptft.terminal.words import count, short_value

Shapes = Mapping[str, tuple[int, ...]]

_LORA = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight")
_IN_BLOCK = re.compile(r"\.(\d{1,9})\.")
_IS_FUSED = re.compile(r"expert|moe")  # whose names and shapes in files aren't those in memory


def require_fit(files: ModelFiles) -> None:
    """Refuse an adapter whose weights are made for another base, as far as headers tell.

    Raises:
        ModelError: as said, with both shapes.
    """
    if not files.adapters:
        return
    base = {}
    if files.gguf is None and "quantization_config" not in files.config:
        tensors, _ = read_headers(weight_files(files))
        base = {name: one.shape for name, one in tensors.items()}
    for folder in files.adapters:
        if (shapes := _shapes(folder)) is not None:
            require_rank(adapter_config(folder), shapes, folder)
            if base:
                _require_layers(shapes, base, folder)


def require_rank(stored: Mapping[str, Any], shapes: Shapes, folder: Path) -> None:
    """Refuse a rank that the weights don't have, before matrices of that size are made.

    Raises:
        ModelError: as said, with both numbers.
    """
    found = [shape[0] for name, shape in shapes.items() if "lora_A" in name and len(shape) > 1]
    rank, more = stored.get("r", 8), stored.get("rank_pattern")
    asked = [rank, *(more.values() if isinstance(more, Mapping) else ())]
    if stored.get("peft_type") != "LORA" or not found:
        return
    for one in asked:
        if isinstance(one, int) and one > max(found) and one not in found:
            raise ModelError(
                f"{folder / ADAPTER_CONFIG} says rank {short_value(one)}, and the adapter's "
                f"weights have rank {max(found):,}. Copy both from where the adapter comes from."
            )


def _shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of an adapter's weights; None of pickled ones that weren't converted yet."""
    path = adapter_weights(folder)
    if path.name == PICKLED_ADAPTER:
        kept = kept_folder([path])
        if kept is None:
            return None
        path = kept / "model.safetensors"
    tensors, unreadable = read_headers([path])
    if unreadable or not tensors:
        what = "can't be read" if unreadable else "holds no weights"
        raise ModelError(
            f"{folder / ADAPTER_WEIGHTS} {what}. Copy it again from where the adapter comes from."
        )
    return {name: one.shape for name, one in tensors.items()}


def _require_layers(shapes: Shapes, base: Shapes, folder: Path) -> None:
    """Refuse LoRA for layers that the base doesn't have, or has in other sizes."""
    known = {end: shape for name, shape in base.items() for end in _ends(name)}
    layers = [(found[1], found[2], shapes[name]) for name, found in _found(shapes)]
    seen = False
    for layer, matrix, shape in layers:
        weight = next((known[end] for end in _ends(f"{layer}.weight") if end in known), None)
        if weight is None or len(weight) != 2 or len(shape) != 2:
            continue
        seen = True
        side, where = (shape[1], "takes") if matrix == "A" else (shape[0], "gives")
        if side not in weight:  # GPT-2 stores them the other way round
            raise ModelError(
                f"{folder} doesn't fit its base: for {layer} it {where} {side:,} numbers, and the "
                f"weight there is {weight}. It was made for another base."
            )
    deepest, depth = (max(map(_number, names), default=-1) for names in (shapes, base))
    if seen and deepest > depth:
        raise ModelError(
            f"{folder} doesn't fit its base: it changes layer {deepest:,}, counted from 0, and the "
            f"base has {count(depth + 1, 'layer')}. It was made for another base."
        )
    # A tied head is in no file.
    numbered = [layer for layer, _, _ in layers if _IN_BLOCK.search(layer)]
    if numbered and not seen and not any(map(_IS_FUSED.search, numbered)):
        raise ModelError(
            f"{folder} doesn't fit its base: the base has none of the layers that it changes, "
            f"{numbered[0]} for one. It was made for another base."
        )


def _number(name: str) -> int:
    """Of which layer a weight is; -1 of none."""
    found = _IN_BLOCK.search(name)
    return int(found[1]) if found else -1


def _found(names: Iterable[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for name in sorted(names):
        if found := _LORA.fullmatch(name):
            yield name, found


def _ends(name: str) -> Iterator[str]:
    """A name, and without its first parts: files leave them out, or put others before them."""
    parts = name.split(".")
    yield name
    for start in range(1, max(len(parts) - 3, 1)):
        yield ".".join(parts[start:])
