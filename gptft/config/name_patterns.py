"""Patterns of names, transformer.wte or h.0-5 -> the weights of a model that they mean.

A pattern is a part of a weight's path: one or more names between its dots, of which 0-5 stands for
each number from 0 to 5. It means every weight whose path has it, so the name of a module means all
that is in the module.
"""

import re
from collections.abc import Iterable, Sequence

from gptft.config.suggest import did_you_mean

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_SHOWN = 12  # names of a model that a message lists
_COMPARED = 1000  # weights whose names a mistyped one is compared with


def check_pattern(pattern: str) -> str:
    """The pattern, where it is one.

    Raises:
        ValueError: it has an empty name between its dots, or a range that ends before it begins.
    """
    for part in pattern.split("."):
        if not part or part != part.strip():
            raise ValueError(f"{pattern!r} is no name of a module: write wte, or h.0-5, say")
        found = _RANGE.fullmatch(part)
        if found and int(found[1]) > int(found[2]):
            raise ValueError(f"{pattern!r} has a range that ends before it begins: {part}")
    return pattern


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of the names that a pattern means.

    >>> matching("h.0-1", ["h.0.attn.bias", "h.1.ln.weight", "h.2.ln.weight", "wte.weight"])
    ['h.0.attn.bias', 'h.1.ln.weight']
    >>> matching("ln", ["h.0.ln.weight", "ln_f.weight"])
    ['h.0.ln.weight']
    """
    parts = pattern.split(".")
    return [name for name in names if _place(parts, name.split(".")) is not None]


def pattern_problem(pattern: str, names: Sequence[str]) -> str | None:
    """What to say of a pattern that means nothing of a model, or a number that isn't there.

    Args:
        pattern: see `check_pattern`.
        names: of all the model's weights.

    Returns:
        the rest of a sentence that begins with the pattern; None where all of it is there.
    """
    parts = pattern.split(".")
    paths = [name.split(".") for name in names]
    found = [(path, at) for path in paths if (at := _place(parts, path)) is not None]
    if not found:
        near = did_you_mean(pattern, sorted(_candidates(len(parts), names[:_COMPARED])))
        return f"names nothing of the model. {near or f'It has {_outline(names)}.'}"
    for at, part in enumerate(parts):
        numbers = _RANGE.fullmatch(part)
        if numbers is None:
            continue
        first, last = int(numbers[1]), int(numbers[2])
        there = {int(path[start + at]) for path, start in found}
        if len(there) <= last - first:
            missing = next(one for one in range(first, last + 1) if one not in there)
            lacks = ".".join((*parts[:at], str(missing)))
            return f"goes beyond the model, which has no {lacks}. It has {_outline(names)}."
    return None


def _place(parts: Sequence[str], path: Sequence[str]) -> int | None:
    """Where in a path a pattern stands first; None where it doesn't."""
    for start in range(len(path) - len(parts) + 1):
        if all(map(_is_meant, parts, path[start:])):
            return start
    return None


def _is_meant(part: str, name: str) -> bool:
    numbers = _RANGE.fullmatch(part)
    if numbers is None or not name.isdecimal():
        return part == name
    return int(numbers[1]) <= int(name) <= int(numbers[2])


def _candidates(length: int, names: Iterable[str]) -> set[str]:
    """Every pattern of so many names, numbers as they are."""
    paths = [name.split(".") for name in names]
    return {
        ".".join(path[start : start + length])
        for path in paths
        for start in range(len(path) - length + 1)
    }


def _outline(names: Iterable[str]) -> str:
    """The outermost modules, layers by their range: wte, h.0-11, ln_f."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        path = name.split(".")[:-1] or [name]
        layer = next((at for at, part in enumerate(path) if part.isdecimal()), None)
        place = ".".join(path if layer is None else path[:layer])
        numbers.setdefault(place, []).extend([] if layer is None else [int(path[layer])])
    shown = [
        place if not found else f"{place}.{min(found)}-{max(found)}".lstrip(".")
        for place, found in numbers.items()
    ]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
