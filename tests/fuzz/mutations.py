"""A file or a value that is right, and a generator of chances -> one that mostly isn't."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

# What people, other programs and broken disks write where something else is meant.
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 7, 0.5, 1.0, 1e-300, 1e300, float("nan"), float("inf"),
    -float("inf"), 10**9, 10**20, -(10**20), 2**31, 2**32, 2**63, 2**64, "", " ", "0", "1e-3",
    "nan", "true", "null", "auto", "no", "x", "Буря мглою", "a" * 300, "a" * 5000, "../x",
    "~nosuch", "~", "x/y/z", "texts", "model", "run", "*", "[", "a\nb", "a\tb", "\x00",
    "\x1b[31m", "\u202e",
    "\ud800", "\udcff", "🙂", "${HOME}", "{{ x }}", "%s%n", "-rf", "--help", [], [None], [1, 2, 3],
    ["x"], [[]], {}, {"x": 1}, {"": {}}, {"name": "model"}, [[[[[[1]]]]]],
)  # fmt: skip
_BOM = b"\xef\xbb\xbf"


def mutated(value: Any, rng: Random) -> Any:
    """A JSON value with one place in it changed, removed, doubled or given another name."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        return _mutated_mapping(dict(value), rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        changed, place = list(value), rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                del changed[place]
            case 1:
                changed.insert(place, rng.choice(JUNK))
            case _:
                changed[place] = mutated(changed[place], rng)
        return changed
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice([value + 1, value - 1, -value, value * 10**6, str(value), [value]])
    if isinstance(value, str) and value and rng.random() < 0.4:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice(["", "x", "\x00", "\n", "\u202e"]) + value[place + 1 :]
    return rng.choice(JUNK)


def _mutated_mapping(value: dict[Any, Any], rng: Random) -> dict[Any, Any]:
    key = rng.choice(list(value))
    match rng.randrange(6):
        case 0:
            del value[key]
        case 1:
            value[f"{key}x"] = value.pop(key)
        case 2:
            value[str(rng.choice(JUNK))] = rng.choice(JUNK)
        case _:
            value[key] = mutated(value[key], rng)
    return value


def _nested(rng: Random) -> bytes:
    depth = rng.choice([100, 2_000, 200_000])
    return rng.choice([b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth])


def _truncated(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else data


def _flipped(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 8)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _with_junk(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    junk = rng.choice([b"\x00", b"\xff\xfe", b"\x1b[2J", b"\r\n", b"\xed\xa0\x80", b"\n" * 1000])
    return data[:place] + junk + data[place:]


_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _truncated, _flipped, _with_junk, lambda data, rng: b"", lambda data, rng: _BOM + data,
    lambda data, rng: data * 2, lambda data, rng: _nested(rng),
    lambda data, rng: data.decode("utf-8", "replace").encode("utf-16"),
    lambda data, rng: rng.randbytes(rng.choice([1, 100, 10_000])),
)  # fmt: skip


def spoil(path: Path, rng: Random) -> None:
    """Change a file, mostly so that it stays readable."""
    kind = rng.random()
    if kind < 0.1:
        _replace(path, rng)
    elif kind < 0.75 and path.suffix in (".json", ".jsonl"):
        _spoil_json(path, rng)
    else:
        path.write_bytes(rng.choice(_BYTES)(path.read_bytes(), rng))


def _spoil_json(path: Path, rng: Random) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    place = rng.randrange(len(lines)) if lines else 0
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if lines:
            lines[place] = json.dumps(mutated(json.loads(lines[place]), rng))
    path.write_bytes("\n".join(lines).encode())


def _replace(path: Path, rng: Random) -> None:
    """Put something else in a file's place, or nothing."""
    path.unlink()
    match rng.randrange(6):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to("nowhere")
        case 2:
            path.symlink_to(path.name)
        case 3:
            os.mkfifo(path)
        case 4:
            path.symlink_to(path.parent, target_is_directory=True)


def spoil_folder(folder: Path, rng: Random) -> None:
    """Spoil some of the files below a folder, or the folder itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    small = [path for path in files if path.stat().st_size < 2**20]
    if rng.random() < 0.03:
        shutil.rmtree(folder)
        return
    for path in rng.sample(small, min(len(small), rng.choice([1, 1, 1, 2, 3]))):
        if path.is_file():
            spoil(path, rng)
